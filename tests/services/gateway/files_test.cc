// Files over HTTP: what is uploaded once is shown as often as a client likes.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/base/temp_folder.h"
#include "tests/services/common/eventually.h"
#include "tests/services/gateway/gateway_fixture.h"

namespace minicpmv::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const char kAlice[] = "Authorization: Bearer a-key-of-sixteen-letters\r\n";
const char kBob[] = "Authorization: Bearer b-key-of-sixteen-letters\r\n";

class FilesTest : public GatewayTest {
 protected:
  void SetUp() override {
    GatewayTest::SetUp();
    options_.disk_folder = folder_.path();
    options_.keys =
        *ApiKeys::Parse("alice a-key-of-sixteen-letters\nbob b-key-of-sixteen-letters\n", "keys");
  }
  static std::string Form(const std::string& bytes, const std::string& purpose = "vision") {
    return absl::StrCat("--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n", purpose,
                        "\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; "
                        "filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n",
                        bytes, "\r\n--B--\r\n");
  }
  static std::string HeaderOf(size_t length, const std::string& headers) {
    return absl::StrCat("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; ",
                        "boundary=B\r\nConnection: close\r\nContent-Length: ", length, "\r\n",
                        headers, "\r\n");
  }
  Answer Upload(const std::string& form, const std::string& headers = kAlice) {
    return Ask(HeaderOf(form.size(), headers) + form);
  }
  Answer Delete(const std::string& id, const std::string& headers = kAlice) {
    return Ask(absl::StrCat("DELETE /v1/files/", id, " HTTP/1.1\r\nConnection: close\r\n", headers,
                            "\r\n"));
  }
  Answer Show(const std::vector<std::string>& ids, const std::string& headers = kAlice) {
    std::string parts;
    for (const std::string& id : ids) {
      absl::StrAppend(&parts, R"({"type": "image_url", "image_url": {"url": ")", id, R"("}},)");
    }
    return Ask(
        LastPost(absl::StrCat(R"({"model": "nano", "messages": [{"role": "user", "content": [)",
                              parts, R"({"type": "text", "text": "What?"}]}]})"),
                 headers));
  }
  double Gauge(const std::string& name) {
    const std::string text = metrics_->Text();
    return std::atof(text.c_str() + text.find("\n" + name + " ") + name.size() + 2);
  }

  const TempFolder folder_;
};

TEST_F(FilesTest, ShowsWhatWasUploadedOnceAsOftenAsAsked) {
  const std::string bytes = "\r\n--b picture\r\n";
  const Answer made = Upload(Form(bytes));
  ASSERT_EQ(made.status, 200) << made.body;
  const Json file = made.json();
  EXPECT_THAT(file["id"], StartsWith("file-"));
  EXPECT_EQ(file["object"], "file");
  EXPECT_EQ(file["bytes"], bytes.size());
  EXPECT_GT(file["created_at"], 1'700'000'000);
  EXPECT_EQ(file["filename"], "a.png");
  EXPECT_EQ(file["purpose"], "vision");
  EXPECT_THAT(router_.uploads(), ElementsAre(bytes));
  const std::string id = file["id"];
  EXPECT_EQ(Ask(Get("/v1/files/" + id, kAlice)).json(), file);
  EXPECT_EQ(Ask(Get("/v1/files", kAlice)).json()["data"], Json::array({file}));
  EXPECT_EQ(Upload(Form(bytes)).json(), file);
  for (int i = 0; i < 2; ++i) {
    router_.Then(SaysAll());
    const Answer shown = Show({id, id});
    EXPECT_EQ(shown.status, 200) << shown.body;
    const auto parts = router_.requests().back().conversation().messages(0).parts();
    EXPECT_EQ(parts[0].media().inline_(), bytes);
    EXPECT_EQ(parts[1].media().inline_(), bytes);
  }
  const Answer deleted = Delete(id);
  EXPECT_EQ(deleted.status, 200);
  EXPECT_EQ(deleted.json()["deleted"], true);
  EXPECT_EQ(Delete(id).status, 404);
  EXPECT_EQ(Ask(Get("/v1/files/" + id, kAlice)).json()["error"]["code"], "file_not_found");
  const Answer gone = Show({id});
  EXPECT_EQ(gone.status, 404);
  EXPECT_EQ(gone.json()["error"]["param"], "messages[0].content[0].image_url.url");
  EXPECT_EQ(gone.json()["error"]["code"], "media_not_found");
}

TEST_F(FilesTest, UploadsLargeOnesToTheRouterThatAnswers) {
  const std::string bytes(3 << 20, 'p');
  const std::string id = Upload(Form(bytes)).json()["id"];
  EXPECT_GE(Gauge("minicpmv_http_disk_bytes"), 3 << 20);
  router_.Then(SaysAll());
  EXPECT_EQ(Show({id}).status, 200);
  const auto parts = router_.requests().back().conversation().messages(0).parts();
  EXPECT_THAT(parts[0].media().handle(), StartsWith("handle-"));
  EXPECT_THAT(router_.uploads(), ElementsAre(bytes));
  Delete(id);
  EXPECT_TRUE(Eventually([&] { return Gauge("minicpmv_http_disk_bytes") == 0; }));
}

TEST_F(FilesTest, ShowsNobodyWhatOthersHave) {
  const std::string id = Upload(Form("picture")).json()["id"];
  const std::string none = "file-" + std::string(64, '0');
  for (const std::string& asked : {id, none}) {
    const auto same = [&](const Answer& answer) {
      EXPECT_EQ(answer.status, 404);
      EXPECT_THAT(answer.body, HasSubstr("file"));
    };
    same(Ask(Get("/v1/files/" + asked, kBob)));
    same(Delete(asked, kBob));
    same(Show({asked}, kBob));
  }
  EXPECT_EQ(Ask(Get("/v1/files", kBob)).json()["data"], Json::array());
  EXPECT_EQ(Ask(Get("/v1/files")).status, 401);
  EXPECT_EQ(Upload(Form("picture"), "").status, 401);
  EXPECT_EQ(Ask(Get("/v1/files/" + id, kAlice)).status, 200);
}

TEST_F(FilesTest, NamesWhatIsWrongWithAnUpload) {
  struct Case {
    std::string form;
    Json param;
  };
  const auto field = [](const std::string& name) {
    return absl::StrCat("--B\r\nContent-Disposition: form-data; name=", name, "\r\n\r\nvision\r\n");
  };
  for (const Case& one :
       {Case{Form("picture", "fine-tune"), "purpose"}, Case{Form("picture", "visions"), "purpose"},
        Case{Form(""), "file"}, Case{field("purpose") + "--B--", "file"},
        Case{field("purpose") + field("file") + "--B--", "file"},
        Case{field("file") + "--B--", "purpose"},
        Case{field("purpose") + field("purpose") + "--B--", "purpose"}, Case{"nothing", nullptr},
        Case{field("purpose"), nullptr}, Case{"", nullptr}}) {
    const Answer answer = Upload(one.form);
    EXPECT_EQ(answer.status, 400) << one.form << answer.body;
    EXPECT_EQ(answer.json()["error"]["param"], one.param) << one.form;
  }
  EXPECT_EQ(Ask(absl::StrCat("POST /v1/files HTTP/1.1\r\nContent-Type: application/json\r\n",
                             kAlice, "Content-Length: 2\r\n\r\n{}"))
                .status,
            415);
  EXPECT_EQ(Ask(Get("/v1/files/", kAlice)).status, 404);
  EXPECT_EQ(Ask(absl::StrCat("DELETE /v1/files HTTP/1.1\r\n", kAlice, "\r\n")).status, 405);
  EXPECT_TRUE(router_.uploads().empty());
}

TEST_F(FilesTest, KeepsNothingThatNoRouterTook) {
  options_.routers.servers = {"127.0.0.1:1", "127.0.0.1:2"};
  EXPECT_EQ(Upload(Form("picture")).status, 503);
  EXPECT_EQ(Ask(Get("/v1/files", kAlice)).json()["data"], Json::array());
}

TEST_F(FilesTest, TakesLargeBodiesByTheDiskAndNoMoreThanItMay) {
  options_.body_memory_bytes = 1000;
  options_.disk_bytes = 100'000;
  options_.all_body_bytes = 40'000;
  router_.Then(SaysAll());
  const std::string text(30'000, 'x');
  const auto hello = [](const std::string& words) {
    return LastPost(absl::StrCat(R"({"model": "nano", "messages": [{"role": "user", "content": ")",
                                 words, R"("}]})"),
                    kAlice);
  };
  EXPECT_EQ(Ask(hello(text)).status, 200);
  EXPECT_EQ(router_.requests().back().conversation().messages(0).parts(0).text(), text);
  // More than may be in memory, more than may be on the disk.
  EXPECT_EQ(Ask(hello(std::string(50'000, 'x'))).status, 503);
  EXPECT_EQ(Ask(hello(std::string(150'000, 'x'))).status, 503);
  EXPECT_EQ(Upload(Form(std::string(150'000, 'x'))).status, 503);
  // Half of the disk is for one tenant's files.
  EXPECT_EQ(Upload(Form(std::string(30'000, 'a'))).status, 200);
  const Answer full = Upload(Form(std::string(30'000, 'b')));
  EXPECT_EQ(full.status, 507);
  EXPECT_EQ(full.json()["error"]["code"], "insufficient_storage");
  EXPECT_EQ(Upload(Form(std::string(30'000, 'b')), kBob).status, 200);
}

TEST_F(FilesTest, SaysThatTheDiskTakesNothing) {
  options_.disk_folder = "/absent";
  EXPECT_EQ(Upload(Form("picture")).status, 507);
  EXPECT_EQ(Ask(LastPost(kHello + std::string(2 << 20, ' '), kAlice)).status, 507);
  router_.Then(SaysAll());
  EXPECT_EQ(Ask(LastPost(kHello, kAlice)).status, 200);
}

TEST_F(FilesTest, KeepsNoFilesWithoutADisk) {
  options_.disk_bytes = 0;
  EXPECT_EQ(Upload(Form("picture")).status, 507);
  router_.Then(SaysAll());
  EXPECT_EQ(Ask(LastPost(kHello + std::string(2 << 20, ' '), kAlice)).status, 200);
}

TEST_F(FilesTest, LetsGoOfUploadsThatAreSlowOrNeverEnd) {
  options_.body_memory_bytes = 1000;
  options_.body_patience = absl::Milliseconds(50);
  RawSocket slow(gateway().address()), gone(gateway().address());
  const std::string part =
      HeaderOf(1 << 20, kAlice) + Form(std::string(20'000, 'x')).substr(0, 9000);
  slow.Send(part);
  gone.Send(part);
  EXPECT_EQ(slow.Receive(), "");
  { const RawSocket closed = std::move(gone); }
  EXPECT_TRUE(Eventually([&] { return Gauge("minicpmv_http_disk_bytes") == 0; }));
  EXPECT_EQ(Ask(Get("/v1/files", kAlice)).json()["data"], Json::array());
}

TEST_F(FilesTest, ForgetsFilesThatNobodyUses) {
  options_.file_life = absl::Milliseconds(1);
  const std::string id = Upload(Form("picture")).json()["id"];
  EXPECT_TRUE(Eventually([&] { return Ask(Get("/v1/files/" + id, kAlice)).status == 404; }));
}

}  // namespace
}  // namespace minicpmv::gateway
