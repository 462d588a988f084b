// Routing traces from bytes: every format, what they may leave out, and what is refused.
#include "model/routes/parse_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "model/routes/trace_format.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using cache::Phase;
using stream::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

RouteTrace parse(std::string_view text) { return parse_trace(std::as_bytes(std::span(text)), "file"); }
std::string refusal(std::string_view text) {
  return message_of<Error>([&] { parse(text); });
}

std::vector<int> ids_of(const RouteTrace& trace, std::size_t row) {
  return {trace.ids(row).begin(), trace.ids(row).end()};
}

/// A request in one line: step, layer, phase, rows.
std::vector<std::string> requests_of(const RouteTrace& trace) {
  std::vector<std::string> lines;
  for (const RouteTrace::Request& request : trace.requests()) {
    lines.push_back(fmt::format("{} {} {} {}", request.step, request.layer,
                                request.phase == Phase::prefill ? "prefill" : "decode", request.rows));
  }
  return lines;
}

const TraceHeader kHeader{.model = "tiny \"model\"",
                          .layers = 2,
                          .experts = 300,
                          .top_k = 3,
                          .expert_bytes = 1234,
                          .dense_bytes = std::uint64_t{5} << 40};

/// A prompt of two tokens in step 0 and a decoded one in step 4, over two layers.
std::string own_format() {
  std::string text = trace_header_line(kHeader);
  const auto add = [&](std::uint32_t step, int layer, Phase phase, std::vector<std::uint16_t> ids,
                       std::vector<float> weights) {
    append_trace_record({.step = step, .layer = layer, .phase = phase}, ids, weights, kHeader.top_k, text);
  };
  add(0, 0, Phase::prefill, {299, 0, 7}, {.5F, .25F, .125F});
  add(0, 0, Phase::prefill, {1, 2, 3}, {1, 2, 3});
  add(0, 1, Phase::prefill, {4, 5, 6}, {4, 5, 6});
  add(0, 1, Phase::prefill, {7, 8}, {7, 8});
  add(4, 0, Phase::decode, {9, 10, 256}, {0, 0, 0});
  add(4, 1, Phase::decode, {0, 1, 2}, {0, 0, 0});
  return text;
}

TEST(TraceFormat, ComesBackAsItWasWritten) {
  const RouteTrace trace = parse(own_format());
  EXPECT_EQ(trace.header.model, kHeader.model);
  EXPECT_EQ(trace.header.layers, 2);
  EXPECT_EQ(trace.header.experts, 300);
  EXPECT_EQ(trace.header.top_k, 3);
  EXPECT_EQ(trace.header.expert_bytes, kHeader.expert_bytes);
  EXPECT_EQ(trace.header.dense_bytes, kHeader.dense_bytes);
  EXPECT_THAT(requests_of(trace), ElementsAre("0 0 prefill 2", "0 1 prefill 2", "4 0 decode 1", "4 1 decode 1"));
  EXPECT_THAT(ids_of(trace, 0), ElementsAre(299, 0, 7));
  EXPECT_THAT(trace.weights(0), ElementsAre(.5F, .25F, .125F));
  EXPECT_THAT(ids_of(trace, 3), ElementsAre(7, 8)) << "a row may have fewer";
  EXPECT_THAT(trace.weights(3), ElementsAre(7, 8));
  EXPECT_THAT(ids_of(trace, 4), ElementsAre(9, 10, 256));
}

TEST(TraceFormat, ARecordIsAsLongAsDocumented) {
  const std::string text = own_format();
  EXPECT_EQ(text.size(), text.find('\n') + 1 + 6 * (8 + 4 * 3));
  EXPECT_EQ(trace_record_bytes(8), 40u);
}

TEST(TraceFormat, EndsWithItsLastWholeRecord) {
  const std::string text = own_format();
  for (std::size_t cut = 1; cut < trace_record_bytes(3); ++cut) {
    EXPECT_EQ(parse(std::string_view(text).substr(0, text.size() - cut)).requests().size(), 3u) << cut;
  }
}

TEST(TraceFormat, RefusesWhatDoesNotFitItsHeader) {
  const auto damaged = [](std::size_t at, char value) {
    std::string text = own_format();
    text[text.find('\n') + 1 + at] = value;
    return refusal(text);
  };
  EXPECT_THAT(damaged(4, 2), AllOf(StartsWith("file: "), HasSubstr("record 0 is of layer 2")));
  EXPECT_THAT(damaged(6, 2), HasSubstr("phase 2"));
  EXPECT_THAT(damaged(7, 4), HasSubstr("4 experts, expected at most 3"));
  EXPECT_THAT(damaged(8, 44), HasSubstr("expert 300, but a layer has 300"));
  EXPECT_THAT(damaged(0, 1), HasSubstr("record 1 is of step 0, after one of step 1"));
}

TEST(TraceFormat, RefusesOtherHeaders) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = own_format();
    text.replace(text.find(from), from.size(), to);
    return refusal(text);
  };
  EXPECT_THAT(with("sluice-route-trace", "zip"), HasSubstr("is no routing trace"));
  EXPECT_THAT(with("\"version\":1", "\"version\":2"), HasSubstr("version 2 of the format, expected 1"));
  EXPECT_THAT(with("\"layers\":2", "\"layers\":0"), HasSubstr("\"layers\""));
  EXPECT_THAT(with("\"layers\":2", "\"layers\":4000000000"), HasSubstr("expected a whole number from 1 to 1024"));
  EXPECT_THAT(with("\"experts\":300", "\"experts\":-1"), HasSubstr("\"experts\""));
  EXPECT_THAT(with("\"top_k\":3", "\"top_k\":301"), HasSubstr("\"top_k\""));
  EXPECT_THAT(with("\"model\":", "\"name\":"), HasSubstr("\"model\""));
  EXPECT_THAT(refusal(trace_header_line(kHeader)), HasSubstr("holds no routes"));
  EXPECT_THAT(refusal(R"({"format":"sluice-route-trace"})"), HasSubstr("ends within its first line"));
}

// A prompt of two tokens, whose last layer computes only the last one, and two decoded tokens.
constexpr const char* kCsv =
    "# route_trace v1\n"
    "# model=/somewhere/Tiny-Q4.gguf arch=tiny n_layer=3 n_expert=64 n_expert_used=2\n"
    "# layer=0 expert_bytes=1000 dense_bytes=50\n"
    "# layer=1 expert_bytes=3000 dense_bytes=60\n"
    "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"
    "0,0,0,0,0,49,0.75,0,1000\n"
    "0,0,0,0,1,19,0.25,0,1000\n"
    "0,0,1,0,0,19,0.5,1,1000\n"
    "0,0,1,0,1,7,0.5,1,1000\n"
    "0,0,1,1,0,3,0.9,0,1000\n"
    "0,0,1,1,1,4,0.1,0,1000\n"
    "0,1,2,0,0,1,0.5,0,1000\n"
    "0,1,2,0,1,2,0.5,0,1000\n"
    "0,1,2,1,0,5,0.5,0,1000\n"
    "0,1,2,1,1,6,0.5,0,1000\n"
    "0,1,3,0,0,8,0.5,0,1000\n"
    "0,1,3,0,1,9,0.5,0,1000\n";

TEST(CsvTrace, APromptIsOneStepAndADecodedTokenIsOne) {
  const RouteTrace trace = parse(kCsv);
  EXPECT_EQ(trace.header.model, "Tiny-Q4.gguf");
  EXPECT_EQ(trace.header.layers, 3);
  EXPECT_EQ(trace.header.experts, 64);
  EXPECT_EQ(trace.header.top_k, 2);
  EXPECT_EQ(trace.header.expert_bytes, 2000u);
  EXPECT_EQ(trace.header.dense_bytes, 110u);
  EXPECT_THAT(requests_of(trace),
              ElementsAre("0 0 prefill 2", "0 1 prefill 1", "1 0 decode 1", "1 1 decode 1", "2 0 decode 1"));
  EXPECT_THAT(ids_of(trace, 0), ElementsAre(49, 19));
  EXPECT_THAT(trace.weights(0), ElementsAre(.75F, .25F));
  EXPECT_THAT(ids_of(trace, 2), ElementsAre(3, 4));
  const cache::RouteLog log = trace.log();
  EXPECT_THAT(log[0].ids, ElementsAre(7, 19, 49)) << "a request is for distinct experts";
}

TEST(CsvTrace, AnotherChunkOrTurnIsAnotherStep) {
  const RouteTrace trace = parse(
      "turn,phase,step,layer,expert\n"
      "0,0,0,0,1\n0,0,0,1,1\n"  // a chunk
      "0,0,1,0,1\n0,0,1,1,1\n"  // the layers begin again: the next
      "1,0,0,1,1\n"             // another turn
      "1,1,0,1,1\n1,1,0,1,2\n"  // decode, two experts
      "2,1,0,1,1\n");           // another turn, decode again
  EXPECT_THAT(requests_of(trace), ElementsAre("0 0 prefill 1", "0 1 prefill 1", "1 0 prefill 1", "1 1 prefill 1",
                                              "2 1 prefill 1", "3 1 decode 1", "4 1 decode 1"));
}

TEST(CsvTrace, ColumnsAreFoundByNameAndCommentsMayBeMissing) {
  const RouteTrace trace = parse("expert,layer,step,phase\r\n5,1,0,1\r\n9,1,0,1\r\n");
  EXPECT_EQ(trace.header.layers, 2);
  EXPECT_EQ(trace.header.experts, 10);
  EXPECT_EQ(trace.header.top_k, 2);
  EXPECT_THAT(ids_of(trace, 0), ElementsAre(5, 9));
  EXPECT_THAT(trace.weights(0), IsEmpty());
}

TEST(CsvTrace, EndsWithItsLastWholeLine) {
  EXPECT_EQ(parse("phase,step,layer,expert\n1,0,0,5\n1,1,0").requests().size(), 1u);
}

TEST(CsvTrace, RefusesOtherTables) {
  EXPECT_THAT(refusal("a,b\n1,2\n"), AllOf(StartsWith("file: "), HasSubstr("no routing trace")));
  EXPECT_THAT(refusal("\x7f\x45LF"), HasSubstr("no routing trace"));
  EXPECT_THAT(refusal(""), HasSubstr("no routing trace"));
  EXPECT_THAT(refusal("phase,step,layer,expert\n"), HasSubstr("holds no routes"));
  EXPECT_THAT(refusal("phase,step,layer,expert\n1,0,0,x\n"), HasSubstr("line 2 is not a route: '1,0,0,x'"));
  EXPECT_THAT(refusal("phase,step,layer,expert\n2,0,0,1\n"), HasSubstr("line 2"));
  EXPECT_THAT(refusal("phase,step,layer,expert\n1,0,1024,1\n"), HasSubstr("line 2"));
  EXPECT_THAT(refusal("phase,step,layer,expert\n1,0,0,8192\n"), HasSubstr("line 2"));
  EXPECT_THAT(refusal("phase,step,layer,expert\n1,-1,0,1\n"), HasSubstr("line 2"));
}

TEST(JsonLinesTrace, EachLineIsADecodedToken) {
  const RouteTrace trace = parse(
      "{\"tok\": 1, \"layers\": [[6, 8], [0, 1, 2]]}\n"
      "\n"
      "{\"tok\": 2, \"layers\": [[63, 8], [3]]}\n"
      "{\"tok\": 3, \"lay");
  EXPECT_EQ(trace.header.layers, 2);
  EXPECT_EQ(trace.header.experts, 64);
  EXPECT_EQ(trace.header.top_k, 3);
  EXPECT_THAT(requests_of(trace), ElementsAre("0 0 decode 1", "0 1 decode 1", "1 0 decode 1", "1 1 decode 1"));
  EXPECT_THAT(ids_of(trace, 0), ElementsAre(6, 8));
  EXPECT_THAT(ids_of(trace, 3), ElementsAre(3));
  EXPECT_THAT(trace.weights(0), IsEmpty());
}

TEST(JsonLinesTrace, RefusesOtherLines) {
  EXPECT_THAT(refusal("{\"layers\": [[1]]}\n{\"layers\": [[8192]]}\n"),
              AllOf(StartsWith("file: line 2"), HasSubstr("below 8192")));
  EXPECT_THAT(refusal("{\"layers\": [[1.5]]}\n"), HasSubstr("whole number"));
  EXPECT_THAT(refusal("{\"layers\": [1]}\n"), HasSubstr("list of experts"));
  EXPECT_THAT(refusal("{\"layers\": 1}\n"), HasSubstr("\"layers\""));
  EXPECT_THAT(refusal("{\"tok\": 1}\n"), HasSubstr("\"layers\""));
  EXPECT_THAT(refusal("{}"), HasSubstr("holds no routes"));
}

// Two tokens of two layers with two experts: ids at 4, scores at 12.
constexpr const char* kArrays = R"({"model": "tiny", "layers": 2, "experts": 32, "top_k": 2, "segments": [
  {"name": "a", "tokens": 1, "arrays": {"ids": {"dtype": "u8", "offset": 4, "bytes": 4},
                                        "scores": {"dtype": "f16", "offset": 12, "bytes": 8}}},
  {"name": "b", "tokens": 1, "arrays": {"ids": {"dtype": "u8", "offset": 8, "bytes": 4},
                                        "scores": {"dtype": "f16", "offset": 12, "bytes": 8}}}]})";
const std::vector<unsigned char> kArrayData{0, 0, 0, 0, 31, 2, 3, 4, 5, 6, 7, 8, 0, 0x3c, 0, 0x38, 0, 0x40, 0, 0};

RouteTrace parse_arrays(std::string description, std::size_t bytes = kArrayData.size()) {
  return parse_array_trace(description, std::as_bytes(std::span(kArrayData)).first(bytes), "file");
}

TEST(ArrayTrace, TokensOfAllSegmentsAreDecodeSteps) {
  const RouteTrace trace = parse_arrays(kArrays);
  EXPECT_EQ(trace.header.model, "tiny");
  EXPECT_EQ(trace.header.experts, 32);
  EXPECT_THAT(requests_of(trace), ElementsAre("0 0 decode 1", "0 1 decode 1", "1 0 decode 1", "1 1 decode 1"));
  EXPECT_THAT(ids_of(trace, 0), ElementsAre(31, 2));
  EXPECT_THAT(ids_of(trace, 3), ElementsAre(7, 8));
  EXPECT_THAT(trace.weights(0), ElementsAre(1.0F, 0.5F));
}

TEST(ArrayTrace, RefusesArraysThatDoNotFit) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = kArrays;
    text.replace(text.find(from), from.size(), to);
    return message_of<Error>([&] { parse_arrays(text); });
  };
  EXPECT_THAT(with("\"bytes\": 4", "\"bytes\": 5"),
              AllOf(StartsWith("file: "), HasSubstr("has 5 bytes at 4, expected 4")));
  EXPECT_THAT(with("\"offset\": 4", "\"offset\": 18"), HasSubstr("within the 20 there are"));
  EXPECT_THAT(with("\"u8\"", "\"i64\""), HasSubstr("dtype other than u8 and u16"));
  EXPECT_THAT(with("\"experts\": 32", "\"experts\": 31"), HasSubstr("expert 31, but a layer has 31"));
  EXPECT_THAT(with("\"tokens\": 1", "\"tokens\": 99"), HasSubstr("\"tokens\""));
  EXPECT_THAT(with("\"ids\"", "\"di\""), HasSubstr("no array \"ids\""));
  EXPECT_THAT(with("\"scores\"", "\"s\""), HasSubstr("only some segments"));
  EXPECT_THAT(with("\"segments\"", "\"s\""), HasSubstr("\"segments\""));
  EXPECT_THAT(with("\"layers\": 2", "\"layers\": 2000"), HasSubstr("\"layers\""));
}

TEST(ArrayTrace, SegmentsDoNotShareIds) {
  std::string segments;
  for (int i = 0; i < 6; ++i) {
    segments +=
        std::string(i > 0 ? "," : "") + R"({"tokens": 1, "arrays": {"ids": {"dtype": "u8", "offset": 4, "bytes": 4}}})";
  }
  const std::string text = R"({"layers": 2, "experts": 32, "top_k": 2, "segments": [)" + segments + "]}";
  EXPECT_THAT(message_of<Error>([&] { parse_arrays(text); }), HasSubstr("more ids than the 20 bytes"));
}

TEST(ReadTrace, FindsTheOtherFileOfAnArrayTrace) {
  const stream::ScratchDirectory scratch;
  const auto json = scratch.write("routes.json", std::string_view(kArrays));
  const auto data = scratch.write("routes.bin", std::as_bytes(std::span(kArrayData)));
  EXPECT_EQ(read_trace(json).requests().size(), 4u);
  EXPECT_EQ(read_trace(data).requests().size(), 4u);
}

TEST(ReadTrace, NamesTheFile) {
  const stream::ScratchDirectory scratch;
  EXPECT_THAT(message_of<Error>([&] { read_trace(scratch.path() / "none.csv"); }), HasSubstr("none.csv"));
  const auto path = scratch.write("other.csv", std::string_view("a,b\n"));
  EXPECT_THAT(message_of<Error>([&] { read_trace(path); }), StartsWith(path.string() + ": "));
}

}  // namespace
}  // namespace sluice::model
