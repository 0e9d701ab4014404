#include "services/gateway/uploaded_form.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/check.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/read_prompt.h"
#include "services/gateway/form_reader.h"

namespace minicpmv::gateway {
namespace {

constexpr int64_t kPieceBytes = 256 << 10;
constexpr int64_t kMaxPurposeBytes = 64;
constexpr size_t kMaxFilenameBytes = 255;

absl::StatusOr<std::vector<FormField>> ReadFields(const Body& body,
                                                  const std::string& content_type) {
  const std::optional<std::string> boundary = FormBoundaryOf(content_type);
  CHECK(boundary.has_value());
  FormReader reader(*boundary);
  for (int64_t at = 0; at < body.size(); at += kPieceBytes) {
    ASSIGN_OR_RETURN(const std::string piece,
                     body.ReadSome(at, std::min(kPieceBytes, body.size() - at)));
    RETURN_IF_ERROR(reader.Read(piece));
  }
  return std::move(reader).Finish();
}

absl::StatusOr<FormField> OneOf(const std::vector<FormField>& fields, const char* name) {
  const FormField* found = nullptr;
  for (const FormField& field : fields) {
    if (field.name != name) continue;
    if (found != nullptr) return BadField(name, "comes twice");
    found = &field;
  }
  if (found == nullptr) return BadField(name, "is missing");
  return *found;
}

// As far as it is text that fits.
std::string FilenameOf(const FormField& field) {
  std::string name;
  for (const char c : field.filename.value_or("")) {
    if (!absl::ascii_iscntrl(static_cast<unsigned char>(c))) name += c;
  }
  return name.substr(0, kMaxFilenameBytes);
}

}  // namespace

absl::StatusOr<StoredFile> ReadUploadedForm(std::shared_ptr<const Body> body,
                                            const std::string& content_type) {
  ASSIGN_OR_RETURN(const std::vector<FormField> fields, ReadFields(*body, content_type));
  ASSIGN_OR_RETURN(const FormField purpose, OneOf(fields, "purpose"));
  ASSIGN_OR_RETURN(const FormField content, OneOf(fields, "file"));
  StoredFile file;
  ASSIGN_OR_RETURN(file.purpose,
                   body->ReadSome(purpose.offset, std::min(purpose.size, kMaxPurposeBytes)));
  if (file.purpose != "vision") {
    return BadField("purpose", absl::StrCat("is ", Quoted(file.purpose), ", and not vision"));
  }
  if (!content.filename.has_value()) return BadField("file", "is no file");
  if (content.size == 0) return BadField("file", "is empty");
  file.filename = FilenameOf(content);
  file.created = absl::ToUnixSeconds(absl::Now());
  file.body = std::move(body);
  file.offset = content.offset;
  file.size = content.size;
  return file;
}

}  // namespace minicpmv::gateway
