#include "runtime/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace minicpmv {
namespace {

absl::Status WriteAll(const std::string& path,
                      const std::vector<std::pair<const void*, size_t>>& parts) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return absl::ErrnoToStatus(errno, path);
  int error = 0;
  for (const auto& [data, size] : parts) {
    if (error == 0 && size > 0 && std::fwrite(data, 1, size, file) != size) error = errno;
  }
  if (std::fclose(file) != 0 && error == 0) error = errno;
  return error == 0 ? absl::OkStatus() : absl::ErrnoToStatus(error, path);
}

}  // namespace

void SafetensorsWriter::Add(std::string name, ConstTensorView tensor) {
  const auto* const bytes = static_cast<const uint8_t*>(tensor.data);
  const auto [it, added] = tensors_.try_emplace(
      std::move(name),
      Tensor{tensor.dtype, tensor.shape, std::vector<uint8_t>(bytes, bytes + tensor.bytes())});
  CHECK(added) << it->first;
}

absl::Status SafetensorsWriter::Write(const std::string& path) const {
  // Wide elements first: with a header padded to eight bytes, each tensor is then aligned without
  // holes.
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& item : tensors_) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return SizeOf(a->second.dtype) > SizeOf(b->second.dtype);
  });

  nlohmann::json header = nlohmann::json::object();
  std::vector<std::pair<const void*, size_t>> parts(2);
  uint64_t at = 0;
  for (const auto* item : order) {
    const auto& [name, tensor] = *item;
    nlohmann::json shape = nlohmann::json::array();
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
    header[name] = {{"dtype", absl::AsciiStrToUpper(NameOf(tensor.dtype))},
                    {"shape", std::move(shape)},
                    {"data_offsets", {at, at + tensor.bytes.size()}}};
    parts.emplace_back(tensor.bytes.data(), tensor.bytes.size());
    at += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(uint64_t{text.size()} >> (8 * i));
  parts[0] = {length, sizeof(length)};
  parts[1] = {text.data(), text.size()};

  const std::string part = path + ".part";
  absl::Status status = WriteAll(part, parts);
  if (status.ok() && std::rename(part.c_str(), path.c_str()) != 0)
    status = absl::ErrnoToStatus(errno, path);
  if (!status.ok()) std::remove(part.c_str());
  return status;
}

}  // namespace minicpmv
