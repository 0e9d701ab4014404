// Products with row-major matrices that stay as they are mapped.
//
// The order of every sum is that of the numeric contract: eight lanes, element k in lane (k mod 16)
// / 2, so that of sixteen neighbouring bfloat16 one shift gives the eight even elements and one
// mask the eight odd ones. Two ways lead there:
//   Few rows    a vector holds the eight lanes of one sum; the matrix streams through once, at the
//   speed of the memory. Many rows   a vector holds one lane of many sums, of neighbouring columns.
//   A panel of columns is widened and transposed
//               into scratch, lane by lane, and serves all rows; the lanes of a sum are added up
//               one after the other, and their eight results are joined in the tree's order.

#include <algorithm>

#include "runtime/kernels/cpu/targets.h"
#include "runtime/kernels/cpu/verbs.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/cpu/products.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "runtime/kernels/cpu/tile-inl.h"
#include "runtime/kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace minicpmv {
namespace HWY_NAMESPACE {
#if HWY_MAX_BYTES >= 32

constexpr int kGroup = 16;  // neighbours in K that make one step of all lanes, twice
constexpr int kLanes = 8;

// --- Sixteen neighbours as the eight even and the eight odd elements.

HWY_INLINE V8 Even(const BF16* p) {
  const auto both =
      hn::BitCast(hn::FixedTag<uint32_t, 8>(), hn::LoadU(hn::FixedTag<uint16_t, 16>(), &p->bits));
  return hn::BitCast(f8, hn::ShiftLeft<16>(both));
}
HWY_INLINE V8 Odd(const BF16* p) {
  const hn::FixedTag<uint32_t, 8> u32;
  const auto both = hn::BitCast(u32, hn::LoadU(hn::FixedTag<uint16_t, 16>(), &p->bits));
  return hn::BitCast(f8, hn::And(both, hn::Set(u32, 0xffff0000u)));
}
template <typename T>  // float, F16
HWY_INLINE V8 Even(const T* p) {
  return hn::ConcatEven(f8, Load8(p + 8), Load8(p));
}
template <typename T>
HWY_INLINE V8 Odd(const T* p) {
  return hn::ConcatOdd(f8, Load8(p + 8), Load8(p));
}

// The first `count` < 16 elements at p, and zeros.
template <typename T>
struct PartOfGroup {
  PartOfGroup(const T* p, int64_t count) {
    std::memcpy(elements, p, static_cast<size_t>(count) * sizeof(T));
  }
  HWY_ALIGN T elements[kGroup] = {};
};

int64_t WholeGroups(int64_t size) { return (size + kGroup - 1) / kGroup * kGroup; }

// --- Few rows.

// Up to this many rows a column is read anew for each few of them faster than a panel is
// transposed.
constexpr int64_t kFewRows = 24;
// Rows and columns of a tile of sums, and columns that are done with while their part of the matrix
// is in the first cache.
constexpr int kFewRowsTile = 6;
constexpr int ColumnsOf(int rows) { return rows >= 4 ? 2 : rows == 3 ? 3 : 4; }
constexpr int64_t kFewColumns = 12;
// Elements of x that stay in the first cache.
constexpr int64_t kCachedElements = 4096;

// Elements of a row that are multiplied in one go.
int64_t PartOf(int64_t rows) {
  return std::max<int64_t>(kGroup, kCachedElements / rows / kGroup * kGroup);
}

// x as groups: the eight even elements, then the eight odd ones; filled up with zeros. The parts of
// all rows lie beside each other: to [parts][rows][PartOf(rows)], the last part as short as
// WholeGroups says.
void SplitEvenOdd(ConstTensorView x, float* to) {
  const int64_t columns = x.columns(), part = PartOf(x.rows());
  for (int64_t k = 0; k < columns; k += part) {
    for (int64_t r = 0; r < x.rows(); ++r) {
      const float* from = x.as<float>() + r * columns;
      for (int64_t g = k; g < std::min(columns, k + part); g += kGroup, to += kGroup) {
        const PartOfGroup<float> group(from + g, std::min<int64_t>(columns - g, kGroup));
        hn::StoreU(Even(group.elements), f8, to);
        hn::StoreU(Odd(group.elements), f8, to + 8);
      }
    }
  }
}

// Adds one group of kColumns columns to the sums. at(c) points at the group of a column.
template <int kRows, int kColumns, typename At>
HWY_INLINE void AddGroup(const float* HWY_RESTRICT x, int64_t x_step, const At& at,
                         V8 (&sums)[kRows][kColumns]) {
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd) {
    V8 w[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) w[c] = odd ? Odd(at(c)) : Even(at(c));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V8 v = InRegister(hn::LoadU(f8, x + r * x_step + odd * 8));
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(v, w[c], sums[r][c]);
    }
  }
}

// Adds the elements [0, size) of kRows rows and kColumns columns to sums. Rows of x lie `x_step`
// apart, of sums `row_step`. `ahead`: elements to the part of the matrix that is wanted soon.
template <int kRows, int kColumns, typename T>
HWY_INLINE void AddFew(const float* x, int64_t x_step, const T* w, int64_t columns_of_x,
                       int64_t size, int64_t ahead, float* sums, int64_t row_step) {
  V8 tile[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) tile[r][c] = hn::LoadU(f8, sums + r * row_step + c * kLanes);
  }
  int64_t g = 0;
  for (; g + kGroup <= size; g += kGroup) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) hwy::Prefetch(w + c * columns_of_x + g + ahead);
    AddGroup<kRows, kColumns>(
        x + g, x_step, [&](int c) { return w + c * columns_of_x + g; }, tile);
  }
  if (g < size) {
    T part[kColumns][kGroup] = {};
    for (int c = 0; c < kColumns; ++c) {
      std::memcpy(part[c], w + c * columns_of_x + g, static_cast<size_t>(size - g) * sizeof(T));
    }
    AddGroup<kRows, kColumns>(
        x + g, x_step, [&](int c) { return part[c]; }, tile);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) hn::StoreU(tile[r][c], f8, sums + r * row_step + c * kLanes);
  }
}

// Columns [first, last) of one product. x as SplitEvenOdd leaves it.
template <typename T>
void MultiplyColumns(const float* x, int64_t rows, const Product& product, int64_t first,
                     int64_t last, Arena& arena) {
  const int64_t columns_of_x = product.weight->view.columns(), columns = last - first;
  const T* w = product.weight->view.as<T>() + first * columns_of_x;
  const int64_t groups = (rows + kFewRowsTile - 1) / kFewRowsTile, row_step = columns * kLanes;
  const int64_t part = PartOf(rows);
  float* sums = arena.Floats(rows * row_step);
  std::fill(sums, sums + rows * row_step, 0.0f);
  for (int64_t k = 0; k < columns_of_x; k += part) {
    const int64_t size = std::min(part, columns_of_x - k), x_step = WholeGroups(size);
    for (int64_t n = 0; n < columns; n += kFewColumns) {
      const int64_t end = std::min(columns, n + kFewColumns);
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t row = rows * group / groups, row_end = rows * (group + 1) / groups;
        WithCount<kFewRowsTile>(static_cast<int>(row_end - row), [&](auto count) {
          constexpr int kRows = decltype(count)::value, kColumns = ColumnsOf(kRows);
          const int64_t ahead = (rows == 1 ? kColumns : kFewColumns) * columns_of_x;
          const auto add = [&](auto column_count, int64_t column) {
            AddFew<kRows, decltype(column_count)::value>(
                x + k * rows + row * x_step, x_step, w + column * columns_of_x + k, columns_of_x,
                size, ahead, sums + row * row_step + column * kLanes, row_step);
          };
          int64_t column = n;
          for (; column + kColumns <= end; column += kColumns)
            add(std::integral_constant<int, kColumns>(), column);
          for (; column < end; ++column) add(std::integral_constant<int, 1>(), column);
        });
      }
    }
  }
  const float* bias = product.bias != nullptr ? product.bias->view.as<float>() : nullptr;
  const int64_t columns_of_out = product.weight->view.rows();
  for (int64_t r = 0; r < rows; ++r) {
    float* out = product.out.as<float>() + r * columns_of_out;
    for (int64_t n = first; n < last; ++n) {
      const float sum = SumLanes(hn::LoadU(f8, sums + r * row_step + (n - first) * kLanes));
      out[n] = bias != nullptr ? sum + bias[n] : sum;
    }
  }
}

// --- Tasks: a run of columns of one product.

struct ColumnTask {
  const Product* product;
  int64_t first, last;
};

// Cuts the columns of all products into runs of at most `columns`.
std::vector<ColumnTask> CutColumns(absl::Span<const Product> products, int64_t columns) {
  std::vector<ColumnTask> tasks;
  for (const Product& product : products) {
    const int64_t all = product.weight->view.rows();
    for (int64_t first = 0; first < all; first += columns) {
      tasks.push_back({&product, first, std::min(all, first + columns)});
    }
  }
  return tasks;
}

void MultiplyFewRows(ConstTensorView x, absl::Span<const Product> products, Workers& workers) {
  // A task reads about a quarter of a megabyte: long enough to stream, short enough to share.
  constexpr int64_t kTaskElements = int64_t{1} << 17;
  const int64_t columns = x.columns();
  float* split = workers.shared().Floats(x.rows() * WholeGroups(columns));
  SplitEvenOdd(x, split);
  int64_t elements = 0;
  for (const Product& product : products) elements += product.weight->view.shape.elements();
  const std::vector<ColumnTask> tasks = CutColumns(
      products, std::max(kFewColumns, kTaskElements / columns / kFewColumns * kFewColumns));
  workers.RunIfWorth(static_cast<int64_t>(tasks.size()), elements / 8 * x.rows(),
                     [&](int64_t i, Arena& arena) {
                       const ColumnTask& task = tasks[static_cast<size_t>(i)];
                       WithDType(task.product->weight->view.dtype, [&](auto element) {
                         MultiplyColumns<decltype(element)>(split, x.rows(), *task.product,
                                                            task.first, task.last, arena);
                       });
                     });
}

// --- Many rows.

constexpr int kSliver = 2 * kWidth;         // columns of a tile
constexpr int kSlivers = 2;                 // of a panel
constexpr int kPanel = kSlivers * kSliver;  // columns of a panel
constexpr int64_t kDepth = 128;             // elements of one lane that a tile adds up in one go
constexpr int64_t kRowsAtOnce = 512;        // rows that share a packed copy of x

// The order in which the lanes are added up: a sum waits until its neighbour in the tree is there.
constexpr int kTreeOrder[kLanes] = {0, 4, 2, 6, 1, 5, 3, 7};

// Where the elements of one lane lie, in packed rows and in panels: in runs of `depth` elements; a
// run holds the elements of its `width` rows or columns beside each other, cut into tiles.
struct Layout {
  // Keeps the lanes, which are written side by side, from falling on the same lines of the cache.
  static constexpr int64_t kLaneGap = 5 * 16;

  explicit Layout(int64_t columns) : lane(WholeGroups(columns) / kLanes) {
    runs = (lane + kDepth - 1) / kDepth;
    depth = (lane / 2 + runs - 1) / runs *
            2;  // even: a group gives a lane two elements, and they stay together
    runs = (lane + depth - 1) / depth;
  }
  // Elements of all lanes of `width` rows or columns.
  int64_t Size(int64_t width) const { return kLanes * (lane * width + kLaneGap); }
  int64_t Steps(int64_t run) const { return std::min(depth, lane - run * depth); }
  // The first element of a run whose lines hold `width` elements.
  int64_t Run(int l, int64_t run, int64_t width) const {
    return l * (lane * width + kLaneGap) + run * depth * width;
  }

  int64_t lane;   // elements of one lane, padding included
  int64_t depth;  // elements of a run; the last one may be shorter
  int64_t runs;
};

// Packs the tile that begins at row `row` of a block: rows [first, first + count) of x.
void PackRows(ConstTensorView x, int64_t first, int64_t row, int64_t count, const Layout& layout,
              float* block) {
  const int64_t columns = x.columns(), rows = std::min<int64_t>(kTileRows, count - row);
  const float* from = x.as<float>() + (first + row) * columns;
  for (int l = 0; l < kLanes; ++l) {
    for (int64_t run = 0; run < layout.runs; ++run) {
      const int64_t steps = layout.Steps(run);
      float* to = block + layout.Run(l, run, count) + row * steps;
      for (int64_t s = 0; s < steps; ++s) {
        const int64_t element = run * layout.depth + s;
        const int64_t k = element / 2 * kGroup + 2 * l + element % 2;
        for (int64_t r = 0; r < rows; ++r) *to++ = k < columns ? from[r * columns + k] : 0;
      }
    }
  }
}

// Columns [first, last) of a matrix as a panel.
template <typename T>
void WidenPanel(const T* w, int64_t columns_of_x, int64_t first, int64_t last, const Layout& layout,
                float* panel) {
  for (int part = 0; part < kPanel; part += 8) {
    const int sliver = part / kSliver, place = part % kSliver;
    const auto add = [&](int64_t g, const auto& at) {
      V8 even[8], odd[8];
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) {
        even[c] = Even(at(c));
        odd[c] = Odd(at(c));
      }
      Transpose8(even);
      Transpose8(odd);
      const int64_t element = g / kGroup * 2, run = element / layout.depth;
      const int64_t line = sliver * layout.Steps(run) + element - run * layout.depth;
      float* to = panel + layout.Run(0, run, kPanel) + line * kSliver + place;
      const int64_t lane_step = layout.Run(1, 0, kPanel);
#pragma GCC unroll 8
      for (int l = 0; l < kLanes; ++l) {
        hn::StoreU(even[l], f8, to + l * lane_step);
        hn::StoreU(odd[l], f8, to + l * lane_step + kSliver);
      }
    };
    const int64_t n = first + part, count = std::clamp<int64_t>(last - n, 0, 8);
    const T* rows = w + n * columns_of_x;
    int64_t g = 0;
    if (count == 8) {
      for (; g + kGroup <= columns_of_x; g += kGroup)
        add(g, [&](int c) { return rows + c * columns_of_x + g; });
    }
    for (; g < columns_of_x; g += kGroup) {  // the edges of the matrix
      T parts[8][kGroup] = {};
      for (int64_t c = 0; c < count; ++c) {
        std::memcpy(parts[c], rows + c * columns_of_x + g,
                    static_cast<size_t>(std::min<int64_t>(kGroup, columns_of_x - g)) * sizeof(T));
      }
      add(g, [&](int c) { return parts[c]; });
    }
  }
}

// A tile of sums in memory, between two visits.
template <int kRows>
HWY_INLINE void StoreTile(const VW (&c)[kRows][2], float* to) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    hn::StoreU(c[r][0], fw, to + r * kSliver);
    hn::StoreU(c[r][1], fw, to + r * kSliver + kWidth);
  }
}
template <int kRows>
HWY_INLINE void AddTile(const float* from, VW (&c)[kRows][2]) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    c[r][0] = hn::Add(hn::LoadU(fw, from + r * kSliver), c[r][0]);
    c[r][1] = hn::Add(hn::LoadU(fw, from + r * kSliver + kWidth), c[r][1]);
  }
}

// Sums of a panel that wait: the lane being added up, and finished ones on three levels of the
// tree.
struct Waiting {
  float* lane;
  float* levels[3];
};

// Adds one run of one lane to a tile, and after its last run joins the lane with those that wait.
// True when the sums are whole.
template <int kRows>
HWY_INLINE bool AddRun(const float* a, const float* b, int64_t steps, int place, bool is_first,
                       bool is_last, const Waiting& waiting, int64_t at, VW (&c)[kRows][2]) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    c[r][0] = is_first ? hn::Zero(fw) : hn::LoadU(fw, waiting.lane + at + r * kSliver);
    c[r][1] = is_first ? hn::Zero(fw) : hn::LoadU(fw, waiting.lane + at + r * kSliver + kWidth);
  }
  Accumulate<kRows, 2, 1>(a, kRows, b, kSliver, steps, c);
  if (!is_last) {
    StoreTile(c, waiting.lane + at);
    return false;
  }
  int level = 0;
  for (; place >> level & 1; ++level) AddTile(waiting.levels[level] + at, c);
  if (level == 3) return true;
  StoreTile(c, waiting.levels[level] + at);
  return false;
}

template <int kRows>
HWY_INLINE void WriteTile(VW (&c)[kRows][2], const float* bias, float* out, int64_t columns_of_out,
                          int64_t columns) {
  if (columns >= kSliver) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        if (bias != nullptr) c[r][v] = hn::Add(c[r][v], hn::LoadU(fw, bias + v * kWidth));
        hn::StoreU(c[r][v], fw, out + r * columns_of_out + v * kWidth);
      }
    }
    return;
  }
  float tile[kRows * kSliver];
  StoreTile(c, tile);
  for (int r = 0; r < kRows; ++r) {
    for (int64_t n = 0; n < columns; ++n) {
      out[r * columns_of_out + n] = tile[r * kSliver + n] + (bias != nullptr ? bias[n] : 0);
    }
  }
}

// A packed block: `count` rows, the first of which is row `first` of x.
struct RowBlock {
  int64_t first, count;
  const float* packed;
};

// Rows [from, to) of a block, `from` a multiple of kTileRows, times the columns of a task.
void MultiplyPanel(const RowBlock& block, int64_t from, int64_t to, const Layout& layout,
                   const ColumnTask& task, Arena& arena) {
  const Product& product = *task.product;
  const int64_t columns = product.weight->view.rows();
  const float* bias = product.bias != nullptr ? product.bias->view.as<float>() : nullptr;
  float* out = product.out.as<float>() + block.first * columns;
  const int64_t sums = (to - from) * kPanel;
  float* panel = arena.Floats(layout.Size(kPanel) + 4 * sums);
  float* first_sum = panel + layout.Size(kPanel);
  const Waiting waiting = {first_sum,
                           {first_sum + sums, first_sum + 2 * sums, first_sum + 3 * sums}};
  WithDType(product.weight->view.dtype, [&](auto element) {
    WidenPanel(product.weight->view.as<decltype(element)>(), product.weight->view.columns(),
               task.first, task.last, layout, panel);
  });
  for (int place = 0; place < kLanes; ++place) {
    const int l = kTreeOrder[place];
    for (int64_t run = 0; run < layout.runs; ++run) {
      const int64_t steps = layout.Steps(run);
      const float* a = block.packed + layout.Run(l, run, block.count);
      for (int sliver = 0; sliver < kSlivers; ++sliver) {
        const int64_t n = task.first + sliver * kSliver;
        if (n >= task.last) break;
        const float* b = panel + layout.Run(l, run, kPanel) + sliver * steps * kSliver;
        const auto tile = [&](auto count, int64_t row) {
          constexpr int kRows = decltype(count)::value;
          VW c[kRows][2];
          if (AddRun(a + row * steps, b, steps, place, run == 0, run + 1 == layout.runs, waiting,
                     (sliver * (to - from) + row - from) * kSliver, c)) {
            WriteTile(c, bias != nullptr ? bias + n : nullptr, out + row * columns + n, columns,
                      task.last - n);
          }
        };
        int64_t row = from;
        for (; row + kTileRows <= to; row += kTileRows)
          tile(std::integral_constant<int, kTileRows>(), row);
        if (row < to)
          WithCount<kTileRows>(static_cast<int>(to - row), [&](auto count) { tile(count, row); });
      }
    }
  }
}

void MultiplyManyRows(ConstTensorView x, absl::Span<const Product> products, Workers& workers) {
  const Layout layout(x.columns());
  const std::vector<ColumnTask> tasks = CutColumns(products, kPanel);
  const int64_t columns = static_cast<int64_t>(tasks.size());
  // Equal blocks of whole tiles.
  const int64_t blocks = (x.rows() + kRowsAtOnce - 1) / kRowsAtOnce;
  const int64_t tiles_of_block = (x.rows() + blocks * kTileRows - 1) / (blocks * kTileRows);
  for (int64_t first = 0; first < x.rows(); first += tiles_of_block * kTileRows) {
    const int64_t count = std::min(tiles_of_block * kTileRows, x.rows() - first);
    const int64_t tiles = (count + kTileRows - 1) / kTileRows;
    float* packed = workers.shared().Floats(layout.Size(count));
    workers.RunIfWorth(tiles, count * x.columns(), [&](int64_t tile, Arena&) {
      PackRows(x, first, tile * kTileRows, count, layout, packed);
    });
    // Where there are too few columns for all threads the rows are shared out, too, each part with
    // a panel of its own.
    const int64_t parts = std::clamp<int64_t>(3 * workers.threads() / columns, 1, (tiles + 7) / 8);
    const int64_t cost = columns * count * x.columns() * kPanel / kWidth;
    workers.RunIfWorth(columns * parts, cost, [&](int64_t i, Arena& arena) {
      const int64_t part = i % parts;
      MultiplyPanel({first, count, packed}, tiles * part / parts * kTileRows,
                    std::min(count, tiles * (part + 1) / parts * kTileRows), layout,
                    tasks[static_cast<size_t>(i / parts)], arena);
    });
  }
}

void MatMulMany(ConstTensorView x, absl::Span<const Product> products, Workers& workers) {
  if (x.rows() == 0) return;
  x.rows() <= kFewRows ? MultiplyFewRows(x, products, workers)
                       : MultiplyManyRows(x, products, workers);
}

const ProductVerbs* FindProductVerbs() {
  static constexpr ProductVerbs kVerbs = {MatMulMany};
  return &kVerbs;
}

#else
const ProductVerbs* FindProductVerbs() { return nullptr; }
#endif
}  // namespace HWY_NAMESPACE
}  // namespace minicpmv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace minicpmv {

HWY_EXPORT(FindProductVerbs);
const ProductVerbs* GetProductVerbs() { return HWY_DYNAMIC_DISPATCH(FindProductVerbs)(); }

}  // namespace minicpmv
#endif
