// Any bytes as the file of --messages: an error names the file, and each part that is a picture has
// one.
#include <cstdint>

#include "runtime/base/check.h"
#include "tools/minicpmv/conversation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Conversation> read = ParseConversation(text, "messages.json", "/nowhere");
  if (!read.ok()) return 0;
  size_t pictures = 0;
  for (const Message& message : read->messages) {
    for (const MessagePart& part : message.parts) pictures += part.is_image;
  }
  CHECK_EQ(pictures, read->pictures.size());
  return 0;
}
