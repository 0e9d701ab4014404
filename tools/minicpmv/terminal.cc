#include "tools/minicpmv/terminal.h"

#include <iostream>
#include <memory>
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
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

constexpr absl::string_view kWords =
    "/image FILE adds a picture to your next message, /reset begins anew, Ctrl-C stops an answer, "
    "Ctrl-D ends.\n";

class Session {
 public:
  Session(const ChatOptions& options, Answerer& answerer, Interrupts& interrupts)
      : options_(options), answerer_(answerer), interrupts_(interrupts) {}

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
    answerer_.Forget();
  }

  absl::Status AddPicture(const std::string& path) {
    absl::StatusOr<Picture> picture = ReadPicture(path);
    if (!picture.ok()) return Blame("/image", picture.status());
    conversation_.pictures.push_back(*std::move(picture));
    if (absl::Status checked = answerer_.CheckLastPicture(conversation_); !checked.ok()) {
      conversation_.pictures.pop_back();
      return checked;
    }
    next_.parts.push_back({"", /*is_image=*/true});
    return absl::OkStatus();
  }

  absl::Status Ask(const std::string& text) {
    Conversation asked = conversation_;
    Message message = next_;
    message.parts.push_back({text});
    asked.messages.push_back(std::move(message));

    interrupts_.Set([this] { answerer_.Cancel(); });
    absl::Status output;
    absl::StatusOr<Answer> answer = answerer_.Reply(asked, [&output](absl::string_view piece) {
      output = WriteOutput(piece);
      return output;
    });
    interrupts_.Set(nullptr);
    RETURN_IF_ERROR(output);
    RETURN_IF_ERROR(WriteOutput("\n"));
    if (!answer.ok()) {
      Complain(answer.status());
      return absl::OkStatus();
    }
    if (options_.bill) WriteNotice(BillLineOf(*answer));
    // An answer that never began leaves the question where it was: unasked.
    if (answer->text.empty()) return absl::OkStatus();
    asked.messages.push_back(Message{"assistant", {{std::move(answer->text)}}});
    conversation_ = std::move(asked);
    next_ = Message{"user", {}};
    return absl::OkStatus();
  }

  static void Complain(const absl::Status& status) {
    if (!status.ok()) WriteNotice(absl::StrCat(ErrorLine(status), "\n"));
  }

  const ChatOptions& options_;
  Answerer& answerer_;
  Interrupts& interrupts_;
  Conversation beginning_;  // what every conversation here begins with: the system message, if any
  Conversation conversation_;  // pictures: of `next_`, too
  Message next_;               // as far as it is known before its text
};

}  // namespace

absl::Status HoldConversation(
    const ChatOptions& options,
    absl::FunctionRef<absl::StatusOr<std::unique_ptr<Answerer>>()> make_answerer) {
  Interrupts interrupts;
  ASSIGN_OR_RETURN(const std::unique_ptr<Answerer> answerer, make_answerer());
  Session session(options, *answerer, interrupts);
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
