#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/safetensors_header.h"
#include "runtime/checkpoint/safetensors_index.h"

namespace minicpmv {
namespace {

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 32 << 20;  // published ones have 60 KB

std::optional<DType> DTypeOf(absl::string_view name) {
  if (name == "F32") return DType::kF32;
  if (name == "BF16") return DType::kBF16;
  if (name == "F16") return DType::kF16;
  if (name == "I32") return DType::kI32;
  if (name == "U8") return DType::kU8;
  return std::nullopt;
}

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  explicit SafetensorsCheckpoint(std::string folder) : path_(std::move(folder)) {}

  // Maps one file and takes in its tensors. With an index, the file must hold exactly what the
  // index places in it.
  absl::Status AddFile(const std::string& shard, const SafetensorsIndex* index) {
    ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(InFolder(shard)));
    ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries,
                     ParseSafetensorsHeader(file.bytes(), file.path()));
    for (SafetensorsEntry& entry : entries) {
      if (index != nullptr) {
        const auto listed = index->find(entry.name);
        if (listed == index->end() || listed->second != shard) {
          return absl::DataLossError(absl::StrCat(
              file.path(), ": holds tensor ", Quoted(entry.name), ", which ", kIndex,
              listed == index->end() ? " does not list"
                                     : absl::StrCat(" places in ", Quoted(listed->second))));
        }
      }
      bytes_ += entry.end - entry.begin;
      std::string name = std::move(entry.name);
      const uint8_t* const data = file.bytes().data() + entry.begin;
      tensors_.emplace(std::move(name), Tensor{data, std::move(entry)});
    }
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }

  absl::Status AddShards(const SafetensorsIndex& index) {
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : index) shards.insert(shard);
    for (const std::string& shard : shards) RETURN_IF_ERROR(AddFile(shard, &index));
    for (const auto& [tensor, shard] : index) {
      if (!tensors_.contains(tensor)) {
        return absl::DataLossError(absl::StrCat(InFolder(shard), ": lacks tensor ", Quoted(tensor),
                                                ", which ", kIndex, " places in it"));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ConstTensorView> Find(absl::string_view name) const override {
    const auto it = tensors_.find(name);
    if (it == tensors_.end())
      return absl::NotFoundError(absl::StrCat("no tensor ", name, " in ", path_));
    const Tensor& tensor = it->second;
    const std::optional<DType> dtype = DTypeOf(tensor.entry.dtype);
    if (!dtype.has_value()) {
      return absl::UnimplementedError(absl::StrCat("tensor ", name, " in ", path_, ": dtype ",
                                                   tensor.entry.dtype, " is not read"));
    }
    if (tensor.entry.shape.size() > Shape::kMaxRank) {
      return absl::UnimplementedError(absl::StrCat("tensor ", name, " in ", path_, ": ",
                                                   tensor.entry.shape.size(), " axes, at most ",
                                                   Shape::kMaxRank, " are read"));
    }
    Shape shape;
    for (const int64_t size : tensor.entry.shape) shape.Append(size);
    return ConstTensorView(Aligned(tensor, SizeOf(*dtype)), *dtype, shape);
  }

  std::vector<absl::string_view> names() const override {
    std::vector<absl::string_view> names;
    names.reserve(tensors_.size());
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }

  const std::string& path() const override { return path_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  struct Tensor {
    const uint8_t* data;     // in one of files_
    SafetensorsEntry entry;  // its name has moved out, into the key
  };

  std::string InFolder(const std::string& file) const {
    return (std::filesystem::path(path_) / file).string();
  }

  // Today's writers place every tensor at a multiple of its element's size. The first ones did not
  // pad their headers: such a tensor is copied when it is first asked for, and only then.
  const void* Aligned(const Tensor& tensor, size_t alignment) const {
    const size_t size = tensor.entry.end - tensor.entry.begin;
    if (size == 0 || reinterpret_cast<uintptr_t>(tensor.data) % alignment == 0) return tensor.data;
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<uint8_t[]>& copy = copies_[tensor.data];
    if (copy == nullptr) {
      copy.reset(new uint8_t[size]);
      std::memcpy(copy.get(), tensor.data, size);
    }
    return copy.get();
  }

  const std::string path_;
  std::vector<MappedFile> files_;
  absl::btree_map<std::string, Tensor> tensors_;
  uint64_t bytes_ = 0;
  mutable std::mutex mutex_;
  mutable absl::btree_map<const uint8_t*, std::unique_ptr<uint8_t[]>> copies_;  // guarded by mutex_
};

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFile(std::string folder, const std::string& file) {
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(std::move(folder));
  RETURN_IF_ERROR(checkpoint->AddFile(file, nullptr));
  return checkpoint;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& folder_or_file) {
  const std::filesystem::path path(folder_or_file);
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat(folder_or_file, ": no such folder or file"));
  }
  if (!std::filesystem::is_directory(status)) {
    if (path.extension() != ".safetensors") {
      return absl::InvalidArgumentError(
          absl::StrCat(folder_or_file, ": neither a folder nor a .safetensors file"));
    }
    return OpenFile(path.has_parent_path() ? path.parent_path().string() : ".",
                    path.filename().string());
  }
  // The order of the original loader: a whole file wins over an index.
  if (std::filesystem::exists(path / kSingle, error)) return OpenFile(folder_or_file, kSingle);
  const std::string index_path = (path / kIndex).string();
  const absl::StatusOr<std::string> text = ReadFile(index_path, kMaxIndexBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        absl::StrCat(folder_or_file, ": holds neither ", kSingle, " nor ", kIndex));
  }
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const SafetensorsIndex index, ParseSafetensorsIndex(*text, index_path));
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(folder_or_file);
  RETURN_IF_ERROR(checkpoint->AddShards(index));
  return checkpoint;
}

}  // namespace minicpmv
