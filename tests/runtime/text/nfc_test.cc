#include "runtime/text/nfc.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <random>
#include <string>

namespace minicpmv {
namespace {

std::string Nfc(absl::string_view text) {
  std::string storage;
  return std::string(ToNfc(text, storage));
}

std::string LibraryNfc(const std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::string nfc(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
  std::free(result);
  return nfc;
}

TEST(NfcTest, LeavesPlainTextWhereItIs) {
  const std::string text = "naïve café\n";
  std::string storage;
  EXPECT_EQ(ToNfc(text, storage).data(), text.data());
  EXPECT_EQ(Nfc(""), "");
}

TEST(NfcTest, ComposesAndOrders) {
  EXPECT_EQ(Nfc("e\u0301"), "é");
  EXPECT_EQ(Nfc("xe\u0301x"), "xéx");
  EXPECT_EQ(Nfc("\u1100\u1161\u11A8"), "각");
  EXPECT_EQ(Nfc("a\u0301\u0323"), "ạ\u0301");
  EXPECT_EQ(Nfc("\u212B"), "Å");
  EXPECT_EQ(Nfc("\u0958"), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(Nfc("\u0301a"), "\u0301a");
}

TEST(NfcTest, LeavesCharactersYoungerThanUnicode9Alone) {
  EXPECT_EQ(Nfc("\u0484\U0001193E"), "\u0484\U0001193E");
  EXPECT_EQ(Nfc("\U00011935\U00011930"), "\U00011935\U00011930");
  EXPECT_EQ(Nfc("\U00011938"), "\U00011938");
  EXPECT_EQ(Nfc("\u1AC0e\u0301\u1AC0\u0301"), "\u1AC0é\u1AC0\u0301");
}

TEST(NfcTest, AgreesWithTheLibraryOnRandomText) {
  std::mt19937_64 random(1);
  // Latin and its marks, Greek, Hangul parts, CJK compatibility; nothing younger than Unicode 9.
  constexpr char32_t kRanges[][2] = {{0x20, 0x7E},     {0xC0, 0x17F},    {0x300, 0x34E},
                                     {0x370, 0x3FF},   {0x1100, 0x11FF}, {0xAC00, 0xAD00},
                                     {0x1E00, 0x1FFF}, {0xF900, 0xFA6D}};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    const size_t length = random() % 20;
    for (size_t i = 0; i < length; ++i) {
      const auto& range = kRanges[random() % std::size(kRanges)];
      utf8proc_uint8_t bytes[4];
      const auto code =
          static_cast<utf8proc_int32_t>(range[0] + random() % (range[1] - range[0] + 1));
      text.append(reinterpret_cast<const char*>(bytes), utf8proc_encode_char(code, bytes));
    }
    ASSERT_EQ(Nfc(text), LibraryNfc(text)) << text;
  }
}

TEST(NfcTest, OrdersAMillionMarksWithoutQuadraticTime) {
  std::string text = "a";
  std::string ordered = "à";
  for (int i = 0; i < 500'000; ++i) text += "\u0315\u0300";
  for (int i = 1; i < 500'000; ++i) ordered += "\u0300";
  for (int i = 0; i < 500'000; ++i) ordered += "\u0315";
  EXPECT_TRUE(Nfc(text) == ordered);
}

}  // namespace
}  // namespace minicpmv
