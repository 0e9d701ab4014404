#include "tools/minicpmv/terminal.h"

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/errors.h"
#include "tools/minicpmv/interrupts.h"
#include "tools/minicpmv/local_reply.h"
#include "tools/minicpmv/output.h"
#include "tools/minicpmv/picture_rows.h"
#include "tools/minicpmv/reply_json.h"

namespace minicpmv {
namespace {

constexpr absl::string_view kWords =
    "/image FILE adds a picture to your next message, /reset begins anew, Ctrl-C stops an answer, "
    "Ctrl-D ends.\n";

class Session {
 public:
  Session(const ChatOptions& options, LocalModel& model, Interrupts& interrupts)
      : options_(options), model_(model), interrupts_(interrupts) {}

  absl::Status Begin() {
    QuestionOptions first = options_.question;
    first.images.clear();
    ASSIGN_OR_RETURN(beginning_, ReadQuestion(first));
    beginning_.messages.pop_back();  // the empty message of the user: the real one is still to come
    Reset();
    for (const std::string& path : options_.question.images) RETURN_IF_ERROR(AddPicture(path));
    return absl::OkStatus();
  }

  // An error ends the conversation; what is wrong with a line does not.
  absl::Status Take(const std::string& line) {
    absl::string_view words = absl::StripAsciiWhitespace(line);
    if (words == "/reset") {
      Reset();
    } else if (words == "/image" || absl::ConsumePrefix(&words, "/image ")) {
      Complain(AddPicture(std::string(absl::StripAsciiWhitespace(words))));
    } else if (absl::StartsWith(words, "/")) {
      WriteNotice(kWords);
    } else if (!words.empty()) {
      return Ask(line);
    }
    return absl::OkStatus();
  }

 private:
  void Reset() {
    conversation_ = beginning_;
    next_ = Message{"user", {}};
    rows_.emplace(model_, options_.reply.max_slices, options_.reply.exif);
  }

  absl::Status AddPicture(const std::string& path) {
    absl::StatusOr<Picture> picture = ReadPicture(path);
    if (!picture.ok()) return Blame("/image", picture.status());
    conversation_.pictures.push_back(*std::move(picture));
    if (absl::Status planned = rows_->Plan(conversation_.pictures); !planned.ok()) {
      conversation_.pictures.pop_back();
      return planned;
    }
    next_.parts.push_back({"", /*is_image=*/true});
    return absl::OkStatus();
  }

  absl::Status Ask(const std::string& text) {
    Conversation asked = conversation_;
    Message message = next_;
    message.parts.push_back({text});
    asked.messages.push_back(std::move(message));

    LocalReply running(model_);
    interrupts_.Set([&running] { running.Cancel(); });
    absl::Status output;
    absl::StatusOr<Reply> reply =
        running.Run(asked, options_.reply, *rows_, [&output](absl::string_view piece) {
          output = WriteOutput(piece);
          return output;
        });
    interrupts_.Set(nullptr);
    RETURN_IF_ERROR(output);
    RETURN_IF_ERROR(WriteOutput("\n"));
    if (!reply.ok()) {
      Complain(reply.status());
      return absl::OkStatus();
    }
    if (options_.bill) WriteNotice(BillLineOf(*reply));
    // An answer that never began leaves the question where it was: unasked.
    if (reply->text.empty()) return absl::OkStatus();
    asked.messages.push_back(Message{"assistant", {{std::move(reply->text)}}});
    conversation_ = std::move(asked);
    next_ = Message{"user", {}};
    return absl::OkStatus();
  }

  static void Complain(const absl::Status& status) {
    if (!status.ok()) WriteNotice(absl::StrCat(ErrorLine(status), "\n"));
  }

  const ChatOptions& options_;
  LocalModel& model_;
  Interrupts& interrupts_;
  Conversation beginning_;  // what every conversation here begins with: the system message, if any
  Conversation conversation_;  // pictures: of `next_`, too
  Message next_;               // as far as it is known before its text
  std::optional<PictureRows> rows_;
};

}  // namespace

absl::Status HoldConversation(const ChatOptions& options, const LocalModelOptions& model_options) {
  Interrupts interrupts;
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalModel> model, LocalModel::Load(model_options));
  Session session(options, *model, interrupts);
  RETURN_IF_ERROR(session.Begin());
  WriteNotice(kWords);
  std::string line;
  while (true) {
    RETURN_IF_ERROR(WriteOutput("> "));
    if (!std::getline(std::cin, line)) break;
    RETURN_IF_ERROR(session.Take(line));
  }
  return WriteOutput("\n");
}

}  // namespace minicpmv
