#include "runtime/engine/model_fingerprint.h"

#include <openssl/evp.h>

#include <cstring>
#include <memory>

#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/kernels/step_batch.h"

namespace minicpmv {
namespace {

constexpr size_t kPieceBytes = 1024;
constexpr size_t kPieces = 4;

// Fields one after the other; texts say how long they are, so that no two lists look alike.
class Hash {
 public:
  explicit Hash(absl::string_view purpose) : state_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    CHECK_EQ(EVP_DigestInit_ex(state_.get(), EVP_sha256(), nullptr), 1);
    Text(purpose);
  }

  void Number(uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
    Add(bytes, sizeof(bytes));
  }
  void Whole(int64_t value) { Number(static_cast<uint64_t>(value)); }
  void Real(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    Number(bits);
  }
  void Text(absl::string_view text) {
    Number(text.size());
    Add(text.data(), text.size());
  }
  std::string Finish() {
    std::string digest(32, '\0');
    auto* const bytes = reinterpret_cast<uint8_t*>(digest.data());
    CHECK_EQ(EVP_DigestFinal_ex(state_.get(), bytes, nullptr), 1);
    return digest;
  }

 private:
  void Add(const void* bytes, size_t size) {
    CHECK_EQ(EVP_DigestUpdate(state_.get(), bytes, size), 1);
  }

  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> state_;
};

void AddLanguage(const LanguageSpec& language, Hash& hash) {
  for (const int64_t number :
       {language.hidden, language.intermediate, language.layers, language.heads, language.kv_heads,
        language.head_size, language.vocabulary, language.max_positions}) {
    hash.Whole(number);
  }
  hash.Real(language.rope_theta);
  hash.Real(language.norm_epsilon);
  hash.Whole(language.tied_lm_head);
}

void AddVision(const ModelSpec& spec, Hash& hash) {
  const VisionSpec& vision = spec.vision;
  for (const int64_t number : {vision.hidden, vision.intermediate, vision.layers, vision.heads,
                               vision.patch_size, vision.table_side}) {
    hash.Whole(number);
  }
  hash.Real(vision.norm_epsilon);
  hash.Whole(spec.resampler.queries);
  hash.Whole(spec.resampler.heads);
  hash.Real(spec.resampler.norm_epsilon);

  const PreprocessSpec& preprocess = spec.preprocess;
  hash.Whole(preprocess.scale_resolution);
  hash.Whole(preprocess.max_slices);
  hash.Whole(preprocess.slice_mode);
  hash.Whole(preprocess.image_ids);
  for (const float value : preprocess.mean) hash.Real(value);
  for (const float value : preprocess.std) hash.Real(value);
}

void AddDefaults(const GenerationDefaults& defaults, Hash& hash) {
  hash.Real(defaults.temperature);
  hash.Real(defaults.top_p);
  hash.Whole(defaults.top_k);
  hash.Real(defaults.repetition_penalty);
  hash.Whole(defaults.max_new_tokens);
}

void AddTensor(absl::string_view name, const Checkpoint& checkpoint, Hash& hash) {
  hash.Text(name);
  const absl::StatusOr<ConstTensorView> tensor = checkpoint.Find(name);
  if (!tensor.ok()) {  // of a kind that no model here uses
    hash.Text("unread");
    return;
  }
  hash.Text(NameOf(tensor->dtype));
  hash.Whole(tensor->shape.rank());
  for (int i = 0; i < tensor->shape.rank(); ++i) hash.Whole(tensor->shape[i]);
  const absl::string_view bytes(static_cast<const char*>(tensor->data), tensor->bytes());
  if (bytes.size() <= kPieces * kPieceBytes) {
    hash.Text(bytes);
    return;
  }
  const size_t last = bytes.size() - kPieceBytes;
  for (size_t i = 0; i < kPieces; ++i) {
    hash.Text(bytes.substr(last / (kPieces - 1) * i, kPieceBytes));
  }
}

}  // namespace

std::string ModelFingerprint(const ModelSpec& spec, const Checkpoint& checkpoint) {
  Hash hash("minicpmv model 1");
  hash.Text(spec.family->name);
  hash.Text(NameOf(spec.dtype));
  AddLanguage(spec.language, hash);
  AddVision(spec, hash);
  AddDefaults(spec.generation, hash);
  for (const absl::string_view name : checkpoint.names()) AddTensor(name, checkpoint, hash);
  return hash.Finish();
}

std::string LayoutFingerprint(const ModelSpec& spec, DType dtype) {
  Hash hash("minicpmv layout 1");
  hash.Text(NameOf(dtype));
  for (const int64_t number : {int64_t{kPageSize}, spec.language.layers, spec.language.kv_heads,
                               spec.language.head_size, spec.language.hidden}) {
    hash.Whole(number);
  }
  return hash.Finish();
}

}  // namespace minicpmv
