#include "services/common/deliver_messages.h"

#include <gtest/gtest.h>

#include <random>

#include "services/common/transfer_version.h"
#include "tests/services/common/link_fixture.h"

namespace minicpmv {
namespace {

using transfer::v1::DeliverRequest;

absl::Span<const uint8_t> BytesOfText(absl::string_view text) {
  return absl::MakeSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

// `buffer` in slices of random sizes, as a transport may hand them out.
grpc::ByteBuffer Cut(const grpc::ByteBuffer& buffer, uint32_t seed) {
  std::vector<grpc::Slice> slices;
  CHECK(buffer.Dump(&slices).ok());
  std::string all;
  for (const grpc::Slice& slice : slices) all.append(slice.begin(), slice.end());
  std::mt19937 random(seed);
  std::vector<grpc::Slice> cut;
  for (size_t at = 0; at < all.size();) {
    const size_t count =
        std::min<size_t>(1 + random() % (seed % 2 == 0 ? 5 : 90000), all.size() - at);
    cut.emplace_back(all.data() + at, count);
    at += count;
  }
  return grpc::ByteBuffer(cut.data(), cut.size());
}

TEST(DeliverMessagesTest, ComputesTheChecksumThatEverybodyDoes) {
  EXPECT_EQ(ExtendCrc32c(0, BytesOfText("123456789")), 0xe3069283u);
  EXPECT_EQ(ExtendCrc32c(0, {}), 0u);
  EXPECT_EQ(ExtendCrc32c(ExtendCrc32c(0, BytesOfText("1234")), BytesOfText("56789")), 0xe3069283u);
  EXPECT_EQ(ExtendCrc32c(0, std::vector<uint8_t>(32, 0)), 0x8a9136aau);
}

TEST(DeliverMessagesTest, WritesBytesThatAreTheProtoMessage) {
  for (const size_t size : {size_t{1}, size_t{127}, size_t{128}, size_t{20000}, size_t{600000}}) {
    ByteReader content(TestParcel({}, 7, size, 5).content);
    uint32_t crc = 0;
    size_t at = 0;
    while (content.left() > 0) {
      DeliverRequest request;
      ASSERT_TRUE(Decode(EncodeBytes(content, &crc), &request));
      ASSERT_TRUE(request.has_bytes());
      const std::string& data = request.bytes().data();
      ASSERT_LE(data.size(), kTransferMessageBytes);
      EXPECT_EQ(std::memcmp(data.data(), TestBytes().data() + 5 + at, data.size()), 0);
      at += data.size();
      EXPECT_EQ(request.bytes().crc32c(),
                ExtendCrc32c(0, absl::MakeSpan(TestBytes()).subspan(5, at)));
    }
    EXPECT_EQ(at, size);
  }
}

TEST(DeliverMessagesTest, ReadsBytesHoweverTheTransportCutsThem) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    const size_t size = seed % 2 == 0 ? 3000 : kTransferMessageBytes;
    ByteReader content(TestParcel({}, seed, size, seed).content);
    uint32_t sent_crc = 0, crc = 0;
    std::optional<ArrivedBytes> bytes =
        ArrivedBytes::From(Cut(EncodeBytes(content, &sent_crc), seed));
    ASSERT_TRUE(bytes.has_value());
    ASSERT_EQ(bytes->size(), size);
    std::vector<uint8_t> place(size);
    ByteWriter to(PiecesOf(place.data(), size, seed));
    EXPECT_TRUE(bytes->MoveTo(to, &crc).ok());
    EXPECT_EQ(to.left(), 0u);
    EXPECT_EQ(crc, sent_crc);
    EXPECT_EQ(std::memcmp(place.data(), TestBytes().data() + seed, size), 0);
  }
}

TEST(DeliverMessagesTest, LeavesToDecodeWhatIsNoPlainRunOfBytes) {
  DeliverRequest request;
  request.mutable_label()->set_number(3);
  EXPECT_FALSE(ArrivedBytes::From(Encode(request)).has_value());
  EXPECT_FALSE(ArrivedBytes::From(Encode(DeliverRequest())).has_value());
  EXPECT_FALSE(ArrivedBytes::From(grpc::ByteBuffer()).has_value());
  // Fields behind the bytes, or lengths that lie.
  request.mutable_bytes()->set_data("abc");
  std::string text = request.SerializeAsString();
  for (const std::string& wrong :
       {text + "x", text.substr(0, text.size() - 1), std::string("\x1a\xff\xff\xff\xff\x7f", 6),
        std::string("\x1a\x05\x12\xff\xff\xff\xff\x0f", 8), std::string("\x1a", 1)}) {
    const grpc::Slice slice(wrong);
    EXPECT_FALSE(ArrivedBytes::From(grpc::ByteBuffer(&slice, 1)).has_value()) << wrong.size();
  }
  const grpc::Slice slice(text);
  const auto bytes = ArrivedBytes::From(grpc::ByteBuffer(&slice, 1));
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ(bytes->size(), 3u);
}

TEST(DeliverMessagesTest, SurvivesAnyBytes) {
  std::mt19937 random(5);
  for (int i = 0; i < 20000; ++i) {
    std::string text(random() % 40, '\0');
    for (char& c : text) c = static_cast<char>(random());
    if (!text.empty() && i % 2 == 0) text[0] = '\x1a';
    const grpc::Slice slice(text);
    const grpc::ByteBuffer buffer(&slice, 1);
    DeliverRequest request;
    Decode(buffer, &request);
    std::optional<ArrivedBytes> bytes = ArrivedBytes::From(buffer);
    if (!bytes) continue;
    ASSERT_LE(bytes->size(), text.size());
    std::vector<uint8_t> place(bytes->size());
    ByteWriter to(PiecesOf(place.data(), place.size(), static_cast<uint32_t>(i)));
    uint32_t crc = 0;
    bytes->MoveTo(to, &crc).IgnoreError();
    EXPECT_EQ(to.left(), 0u);
  }
}

}  // namespace
}  // namespace minicpmv
