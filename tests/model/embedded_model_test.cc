// The embedded model end to end: reference logits, reference chats, and the promise that settings of speed never
// change a token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cache/simulate.h"
#include "model/chat_template.h"
#include "model/generate.h"
#include "model/golden_file.h"
#include "model/statistics.h"
#include "model/stop_tokens.h"
#include "model/tokenizer/tokenizer.h"
#include "stream/io_counters.h"

namespace sluice::model {
namespace {

const std::filesystem::path kModel = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m";

nlohmann::json reference(const char* file) {
  std::ifstream stream(kModel / "reference" / file);
  return nlohmann::json::parse(stream);
}

struct Generated {
  std::vector<int> tokens;
  GenerateResult result;
};

Generated greedy(Model& model, const std::vector<int>& prompt, int max_tokens, std::span<const int> stop_tokens = {}) {
  Generated generated;
  Session session = model.new_session();
  GenerateRequest request;
  request.prompt = prompt;
  request.max_tokens = max_tokens;
  request.stop_tokens = stop_tokens;
  generated.result = generate(
      model, session, request, [&](int token) { generated.tokens.push_back(token); }, [](int) {});
  return generated;
}

/// Largest |difference| to the reference over the prompt and its 32 teacher-forced greedy tokens.
double largest_difference(const RuntimeSettings& settings) {
  const nlohmann::json text = reference("expected_text.json");
  const GoldenFile expected(kModel / "reference/expected_text.safetensors");
  const auto prompt = text["prompt_ids"].get<std::vector<int>>();
  const auto greedy_ids = text["greedy_ids"].get<std::vector<int>>();
  std::vector<float> logits = expected.values<float>("prompt_logits");
  const std::vector<float> step_logits = expected.values<float>("step_logits");

  const auto model = Model::load(kModel, settings);
  // The first row of step_logits is the last of the prompt again.
  logits.insert(logits.end(), step_logits.begin() + model->info().vocabulary, step_logits.end());
  Session session = model->new_session();
  std::size_t at = 0;
  double largest = 0;
  const auto compare = [&](int, int, std::span<float> row) {
    for (const float value : row) {
      const double difference = std::abs(static_cast<double>(value) - logits.at(at++));
      largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
    }
  };
  model->prefill(session, prompt, LogitsWanted::all, compare);
  for (std::size_t i = 0; i + 1 < greedy_ids.size(); ++i) {
    const SequenceStep step{&session, std::span(greedy_ids).subspan(i, 1), LogitsWanted::last};
    model->forward(std::span(&step, 1), compare);
  }
  EXPECT_EQ(at, logits.size());
  return largest;
}

TEST(EmbeddedModel, LogitsMatchTheReference) {
  RuntimeSettings exact;
  exact.activations = kernels::ActivationKind::f32;
  exact.cache_type = DType::f32;
  const double exact_difference = largest_difference(exact);
  EXPECT_LE(exact_difference, 2e-3);
  const double difference = largest_difference({});
  EXPECT_LE(difference, 2e-2);
  RecordProperty("exact", std::to_string(exact_difference));
  RecordProperty("default", std::to_string(difference));
}

TEST(EmbeddedModel, GreedyTokensAreTheReferences) {
  const nlohmann::json text = reference("expected_text.json");
  const auto model = Model::load(kModel, {});
  const auto expected = text["greedy_ids"].get<std::vector<int>>();
  EXPECT_EQ(greedy(*model, text["prompt_ids"].get<std::vector<int>>(), static_cast<int>(expected.size())).tokens,
            expected);
}

TEST(EmbeddedModel, ChatsComeOutWordForWord) {
  const auto model = Model::load(kModel, {});
  const Tokenizer tokenizer = Tokenizer::load(kModel / "tokenizer.json");
  const ChatTemplate chat = ChatTemplate::load(kModel);
  const std::vector<int> stop = load_stop_tokens(kModel, &tokenizer);
  const nlohmann::json cases = reference("expected_chat.json")["cases"];
  ASSERT_EQ(cases.size(), 15U);
  for (const nlohmann::json& one : cases) {
    std::vector<ChatMessage> messages;
    if (!one["system"].is_null()) messages.push_back({"system", one["system"]});
    messages.push_back({"user", one["user"]});
    const std::vector<int> prompt = tokenizer.encode(chat.render(messages, true));
    EXPECT_EQ(prompt, one["prompt_ids"].get<std::vector<int>>());
    auto expected = one["greedy_ids"].get<std::vector<int>>();
    if (std::binary_search(stop.begin(), stop.end(), expected.back())) expected.pop_back();
    const Generated generated = greedy(*model, prompt, 60, stop);
    EXPECT_EQ(generated.tokens, expected) << one["user"];
    StreamDecoder decoder(tokenizer);
    std::string answer;
    for (const int token : generated.tokens) answer += decoder.push(token);
    answer += decoder.finish();
    EXPECT_THAT(one["answer"].get<std::string>(), testing::StartsWith(answer));
  }
}

TEST(EmbeddedModel, SettingsOfSpeedNeverChangeAToken) {
  const auto prompt = reference("expected_text.json")["prompt_ids"].get<std::vector<int>>();
  constexpr int kTokens = 12;
  RuntimeSettings plain;
  plain.threads = 1;
  plain.moe_path = MoePath::per_expert;
  const std::vector<int> expected = greedy(*Model::load(kModel, plain), prompt, kTokens).tokens;
  for (const int slots : {4, 5, 12, 32}) {
    for (const char* io : {"uring", "pread"}) {
      for (const char* policy : {"decay", "lru"}) {
        for (const int threads : {1, 2}) {
          for (const MoePath path :
               {MoePath::automatic, MoePath::fused, MoePath::stacked, MoePath::stacked_split, MoePath::per_expert}) {
            RuntimeSettings settings;
            settings.cache_slots = slots;
            settings.io = io;
            settings.policy = policy;
            settings.threads = threads;
            settings.moe_path = path;
            const auto model = Model::load(kModel, settings);
            EXPECT_EQ(greedy(*model, prompt, kTokens).tokens, expected)
                << slots << " slots, " << io << ", " << policy << ", " << threads << " threads, path "
                << static_cast<int>(path);
          }
        }
      }
    }
  }
}

TEST(EmbeddedModel, ReadingAheadIsUsedAndChangesNoTokenNorCount) {
  const auto prompt = reference("expected_text.json")["prompt_ids"].get<std::vector<int>>();
  const auto run = [&](cache::LookaheadMode prefetch, const GuessOverride& guesses) {
    RuntimeSettings settings;
    settings.cache_slots = 6;
    settings.prefetch = prefetch;
    const auto model = Model::load(kModel, settings);
    model->override_guesses(guesses);
    Generated generated = greedy(*model, prompt, 40);
    return std::pair(generated.tokens, collect_statistics(*model, generated.result, {}, {}));
  };
  const auto [expected, off] = run(cache::LookaheadMode::off, {});
  EXPECT_EQ(off.decode_ahead.reads, 0U);
  EXPECT_EQ(off.model.staging_bytes, 0U);

  const auto [tokens, on] = run(cache::LookaheadMode::on, {});
  EXPECT_EQ(tokens, expected);
  EXPECT_GT(on.decode_ahead.used, 0U) << "the next router knows nothing of what comes";
  EXPECT_GE(on.decode_ahead.reads, on.decode_ahead.used);
  EXPECT_GT(on.model.staging_bytes, 0U);
  EXPECT_EQ(on.decode_lookups.hits, off.decode_lookups.hits);
  EXPECT_EQ(on.decode_lookups.misses_capacity, off.decode_lookups.misses_capacity);
  EXPECT_EQ(on.decode_lookups.bytes_read, off.decode_lookups.bytes_read);

  // Guesses that have nothing to do with the routes.
  int next = 0;
  const auto [wild_tokens, wild] = run(cache::LookaheadMode::on, [&](int layer, int, std::span<int> ids) {
    EXPECT_GT(layer, 0);
    for (int& id : ids) id = next = (next + 5) % 32;
  });
  EXPECT_EQ(wild_tokens, expected);
  EXPECT_GT(wild.decode_ahead.reads, wild.decode_ahead.used);
  EXPECT_EQ(wild.decode_lookups.hits, off.decode_lookups.hits);
}

TEST(EmbeddedModel, SequencesInOneBatchDoNotSeeEachOther) {
  const auto prompt = reference("expected_text.json")["prompt_ids"].get<std::vector<int>>();
  const auto model = Model::load(kModel, {});
  const auto last_logits = [&](std::span<const SequenceStep> steps) {
    std::vector<std::vector<float>> rows;
    model->forward(steps, [&](int, int, std::span<float> row) { rows.emplace_back(row.begin(), row.end()); });
    return rows;
  };
  const std::span<const int> tokens(prompt);
  Session alone_a = model->new_session();
  Session alone_b = model->new_session();
  const SequenceStep a{&alone_a, tokens.first(20)};
  const SequenceStep b{&alone_b, tokens.subspan(20, 9)};
  std::vector<std::vector<float>> expected = last_logits(std::span(&a, 1));
  expected.push_back(last_logits(std::span(&b, 1)).front());

  Session together_a = model->new_session();
  Session together_b = model->new_session();
  const SequenceStep both[] = {{&together_a, tokens.first(20)}, {&together_b, tokens.subspan(20, 9)}};
  EXPECT_EQ(last_logits(both), expected);
}

TEST(EmbeddedModel, RestoredAndTruncatedSessionsContinueExactly) {
  const auto prompt = reference("expected_text.json")["prompt_ids"].get<std::vector<int>>();
  const auto model = Model::load(kModel, {});
  const auto step = [&](Session& session, std::span<const int> tokens) {
    std::vector<float> logits;
    model->prefill(session, tokens, LogitsWanted::last,
                   [&](int, int, std::span<float> row) { logits.assign(row.begin(), row.end()); });
    return logits;
  };
  const std::span<const int> tokens(prompt);
  Session session = model->new_session();
  const std::vector<float> expected = step(session, tokens);

  Session other = model->new_session();
  step(other, tokens.first(30));
  const SessionSnapshot snapshot = other.save();
  step(other, tokens.first(10));  // something else
  other.restore(snapshot);
  EXPECT_EQ(step(other, tokens.subspan(30)), expected);

  step(other, tokens.first(10));
  other.truncate(40);
  EXPECT_EQ(step(other, tokens.subspan(40)), expected);
}

TEST(EmbeddedModel, CountsAreTrue) {
  const auto prompt = reference("expected_text.json")["prompt_ids"].get<std::vector<int>>();
  RuntimeSettings settings;
  settings.cache_slots = 8;
  const auto model = Model::load(kModel, settings);
  const stream::IoStats reader_before = model->reader().stats();
  const std::optional<stream::ProcessIo> before = stream::read_process_io();
  std::uint64_t routed = 0;
  model->observe_routes(
      [&](cache::Phase, int, int, std::span<const int> ids, std::span<const float>) { routed += ids.size(); });
  const Generated generated = greedy(*model, prompt, 40);
  const std::optional<stream::ProcessIo> after = stream::read_process_io();
  const RunStatistics statistics = collect_statistics(*model, generated.result, {}, {});

  for (const cache::LookupCounts& counts : {statistics.prefill_lookups, statistics.decode_lookups}) {
    EXPECT_EQ(counts.hits + counts.misses_cold + counts.misses_capacity, counts.lookups);
    EXPECT_GE(counts.bytes_read, counts.bytes_needed);
  }
  const auto steps = static_cast<std::uint64_t>(generated.result.decode_steps);
  EXPECT_EQ(steps, 39U);
  EXPECT_EQ(statistics.decode_lookups.lookups, steps * 8 * 4);  // layers, experts per token
  EXPECT_EQ(routed, (prompt.size() + steps) * 8 * 4);
  EXPECT_GT(statistics.decode_lookups.misses_capacity, 0U);
  // The cache counts whole windows; the last one of a file ends with the file.
  const auto counted =
      static_cast<double>(statistics.bytes_read(cache::Phase::prefill) + statistics.bytes_read(cache::Phase::decode));
  EXPECT_NEAR(static_cast<double>(statistics.io.bytes - reader_before.bytes), counted, 0.001 * counted);
  if (statistics.io_choice.direct && before && after) {
    const auto kernel = static_cast<double>(after->read_bytes - before->read_bytes);
    EXPECT_NEAR(static_cast<double>(statistics.io.bytes - reader_before.bytes), kernel, 0.02 * kernel);
  }
}

TEST(EmbeddedModel, RegretAndScheduleFollowFromItsRoutes) {
  const auto prompt = reference("expected_text.json")["prompt_ids"].get<std::vector<int>>();
  RuntimeSettings settings;
  settings.cache_slots = 8;
  const auto model = Model::load(kModel, settings);
  RouteRecorder routes(*model, {});
  const Generated generated = greedy(*model, prompt, 40);
  const RunStatistics s = collect_statistics(
      *model, generated.result, {}, [&] { return measure_rates(*model); }, &routes);

  const auto rate = [&](int slots) {
    const auto counts = cache::simulate(routes.history().log(), slots, cache::eviction_policy("decay"));
    const cache::LookupCounts decode = counts.counts(cache::Phase::decode);
    return static_cast<double>(decode.hits) / static_cast<double>(decode.lookups);
  };
  const double hit_rate = static_cast<double>(s.decode_lookups.hits) / static_cast<double>(s.decode_lookups.lookups);
  EXPECT_EQ(rate(8), hit_rate);
  EXPECT_GT(s.regret.belady_hit_rate.value(), hit_rate);
  EXPECT_EQ(s.regret.half_slots_hit_rate, rate(4));
  EXPECT_EQ(s.regret.double_slots_hit_rate, rate(16));
  ASSERT_TRUE(s.bound() && s.schedule_bound);
  EXPECT_GT(*s.schedule_bound, 0);
  EXPECT_LE(*s.schedule_bound, s.bound()->tok_per_s * (1 + 1e-9));
  const auto json = nlohmann::json::parse(statistics_json(s));
  EXPECT_EQ(json["regret"]["belady_hit_rate"], *s.regret.belady_hit_rate);
  EXPECT_EQ(json["bound"]["schedule_tok_per_s"], *s.schedule_bound);
  EXPECT_EQ(json["bound"]["schedule_fraction"], s.decode_speed() / *s.schedule_bound);

  const RunStatistics without = collect_statistics(*model, generated.result, {}, {});
  EXPECT_FALSE(without.schedule_bound || without.regret.belady_hit_rate);
  EXPECT_TRUE(nlohmann::json::parse(statistics_json(without))["regret"]["belady_hit_rate"].is_null());
}

}  // namespace
}  // namespace sluice::model
