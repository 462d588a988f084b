// Reading configuration files: the words that JSON lacks, faults and their places, and random damage.
#include "model/json_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using nlohmann::json;
using stream::message_of;
using ::testing::HasSubstr;

TEST(JsonFile, ReadsWhatJsonSays) {
  const char* text = R"({"a": [1, -2, 2.5, 1e3, true, null, "x\n\u00e9", {}, []], "b": {"c": 18446744073709551615}})";
  EXPECT_EQ(parse_json(text, "file"), json::parse(text));
  EXPECT_EQ(parse_json("3", "file"), 3);
  EXPECT_EQ(parse_json("{\"a\": 1, \"a\": 2}", "file")["a"], 2);
}

TEST(JsonFile, AcceptsInfinityAndNaNAsNumbers) {
  const json document =
      parse_json(R"({"high": Infinity, "low": -Infinity, "list": [NaN, Infinity,-Infinity], "text": "NaN Infinity"})",
                 "config.json");
  EXPECT_EQ(document["high"].get<double>(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(document["low"].get<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(document["list"][0].get<double>()));
  EXPECT_TRUE(document["list"][1].is_number_float());
  EXPECT_EQ(document["list"][2], document["low"]);
  EXPECT_EQ(document["text"], "NaN Infinity");
  EXPECT_THROW(parse_json("{Infinity: 1}", "config.json"), Error);
  EXPECT_EQ(parse_json("[\"\x7f\", \"NaN\"]", "config.json")[0], "\x7f") << "what stands for NaN is no NaN by itself";
}

TEST(JsonFile, RewritesOnlyWordsOutsideOfStrings) {
  const auto unchanged = [](std::string_view text) { return quote_nonfinite_numbers(text) == text; };
  EXPECT_TRUE(unchanged(R"({"a": "Infinity", "b\"NaN": "\\", "-Infinity": 1})"));
  EXPECT_TRUE(unchanged("Infinit"));
  EXPECT_TRUE(unchanged("Infinityx NaN1 xNaN _Infinity"));
  EXPECT_TRUE(unchanged("\"open NaN"));
  EXPECT_TRUE(unchanged("- 1 Inf -1e5"));
  EXPECT_EQ(quote_nonfinite_numbers("NaN"), "\"\x7f\"");
  EXPECT_EQ(quote_nonfinite_numbers("\"\\\\\"NaN"), "\"\\\\\"\"\x7f\"");
  for (const char* text : {"[NaN,-Infinity,Infinity]", "--Infinity", "NaN", "\"a\\\"\"NaN"}) {
    EXPECT_EQ(quote_nonfinite_numbers(text).size(), std::string_view(text).size()) << text;
  }
}

TEST(JsonFile, NamesThePlaceOfAFault) {
  const auto message = [](std::string_view text) { return message_of<Error>([&] { parse_json(text, "dir/x.json"); }); };
  EXPECT_THAT(message("{\"a\": 1,\n  \"b\" 2}"), HasSubstr("dir/x.json: not valid JSON at line 2, column 7: "));
  EXPECT_THAT(message("{\"a\": Infinity,\n  \"b\": Infinit}"), HasSubstr("not valid JSON at line 2, column "));
  EXPECT_THAT(message(""), HasSubstr("dir/x.json: not valid JSON at line 1, column 1: "));
  EXPECT_THAT(message("{} {}"), HasSubstr("not valid JSON at line 1, column 4: "));
  EXPECT_THAT(message("[1e999]"), HasSubstr("number overflow"));
  EXPECT_THAT(message("[\"\xFF\"]"), HasSubstr("ill-formed UTF-8"));
  EXPECT_LT(message("{\"" + std::string(10'000, 'x')).size(), 300);
}

TEST(JsonFile, BoundsTheDepth) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') + std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_NO_THROW(parse_json(nested(kMaxJsonDepth), "file"));
  EXPECT_THAT(message_of<Error>([&] { parse_json(nested(kMaxJsonDepth + 1), "file"); }),
              HasSubstr("file: not valid JSON: nested deeper than 64 levels"));
  EXPECT_THROW(parse_json(std::string(1'000'000, '['), "file"), Error);
}

TEST(JsonFile, ReadsLongListsOfObjects) {
  // In quadratic time this would run into the time limit of the test.
  std::string text = "[";
  for (int i = 0; i < 200'000; ++i) text += "{},";
  EXPECT_EQ(parse_json(text + "{}]", "file").size(), 200'001);
}

TEST(JsonFile, ShowsEachValueToTheVisitorOnce) {
  std::vector<std::string> seen;
  const auto visitor = [&](std::span<const std::string> path, json& value) {
    std::string way;
    for (const std::string& step : path) way += "/" + step;
    seen.push_back(way + "=" + value.dump());
    return !(path.size() == 1 && path[0] != "keep");
  };
  const json document = parse_json(R"({"a": 1, "keep": [1, {"b": 2}], "c": {"d": 3}, "e": [4]})", "file", visitor);
  EXPECT_THAT(seen,
              ::testing::ElementsAre("/a=1", "/keep/=1", "/keep//b=2", R"(/keep/={"b":2})", R"(/keep=[1,{"b":2}])",
                                     "/c/d=3", R"(/c={"d":3})", "/e/=4", "/e=[4]", R"(={"keep":[1,{"b":2}]})"));
  EXPECT_EQ(document, json::parse(R"({"keep": [1, {"b": 2}]})"));
}

TEST(JsonFile, LeavesElementsOutThatTheVisitorTakes) {
  const auto no_numbers = [](std::span<const std::string>, json& value) { return !value.is_number(); };
  EXPECT_EQ(parse_json(R"([1, "a", [2], 3, {"b": 4}])", "file", no_numbers), json::parse(R"(["a", [], {}])"));
  const auto no_arrays = [](std::span<const std::string>, json& value) { return !value.is_array(); };
  EXPECT_EQ(parse_json(R"({"a": [[1], 2], "b": 3})", "file", no_arrays), json::parse(R"({"b": 3})"));
  EXPECT_EQ(parse_json("[1]", "file", no_arrays), nullptr);
}

TEST(JsonFile, NeverFailsButByError) {
  std::mt19937 random(8);
  const std::string whole =
      R"({"rope": {"factor": Infinity, "x": [-Infinity, NaN, 1.5e-3]}, "s": "a\"b\\c\u00e9", "t": [true, null, {}]})";
  const std::string alphabet = "{}[],:\"\\-InfinityNaN019.eE tu\n\x7f\xC3";
  for (int i = 0; i < 20'000; ++i) {
    std::string text = whole;
    for (std::size_t changes = 1 + random() % 4; changes > 0 && !text.empty(); --changes) {
      const std::size_t at = random() % text.size();
      if (random() % 2 == 0) {
        text[at] = alphabet[random() % alphabet.size()];
      } else {
        text.erase(at, random() % 5);
      }
    }
    EXPECT_EQ(quote_nonfinite_numbers(text).size(), text.size());
    try {
      parse_json(text, "file");
    } catch (const Error& error) {
      ASSERT_TRUE(std::string_view(error.what()).starts_with("file: not valid JSON")) << error.what();
    }
  }
}

TEST(JsonFile, NamesFilesThatCannotBeRead) {
  const stream::ScratchDirectory directory;
  const auto message = [&](const std::filesystem::path& path) {
    return message_of<Error>([&] { parse_json_file(path); });
  };
  EXPECT_THAT(message(directory.path() / "absent.json"), HasSubstr("absent.json: no such file"));
  EXPECT_THAT(message(directory.path()), HasSubstr(": is not a regular file"));
  EXPECT_THAT(message("/dev/zero"), HasSubstr("/dev/zero: is not a regular file"));
  const auto path = directory.write("big.json", std::string(100, ' '));
  EXPECT_EQ(message_of<Error>([&] { read_text_file(path, 99); }), path.string() + ": has 100 B, expected at most 99 B");
  EXPECT_EQ(read_text_file(path, 100).size(), 100);
  EXPECT_TRUE(file_exists(path));
  EXPECT_FALSE(file_exists(directory.path() / "absent.json"));
}

}  // namespace
}  // namespace sluice::model
