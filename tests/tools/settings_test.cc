// The table of settings: precedence, origins, messages, switches. Pure: environment and flags are values.
#include "settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/units.h"

namespace sluice::tools {
namespace {

using model::MoePath;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

model::SettingRecord record_of(const Settings& settings, const std::string& name) {
  for (const model::SettingRecord& record : settings.records) {
    if (record.name == name) return record;
  }
  ADD_FAILURE() << "no record of " << name;
  return {};
}

template <typename Call>
std::string usage_error(Call call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(Settings, DefaultsLeaveTheChoiceToTheModel) {
  const Settings settings = resolve_settings({}, {});
  EXPECT_FALSE(settings.runtime.cache_slots.has_value());
  EXPECT_FALSE(settings.runtime.memory.has_value());
  EXPECT_EQ(settings.runtime.threads, 0);
  EXPECT_EQ(settings.runtime.moe_path, MoePath::automatic);
  EXPECT_FALSE(settings.runtime.cache_type.has_value());
  EXPECT_THAT(settings.notices, IsEmpty());
  for (const model::SettingRecord& record : settings.records) EXPECT_EQ(record.origin, "default") << record.name;
}

TEST(Settings, FlagWinsOverVariableOverAliasOverDefault) {
  const Environment alias{{"MLX_MOE_CACHE_SLOTS", "5"}};
  Environment both = alias;
  both["SLUICE_CACHE_SLOTS"] = "6";

  EXPECT_EQ(resolve_settings({}, alias).runtime.cache_slots, 5);
  EXPECT_EQ(record_of(resolve_settings({}, alias), "cache_slots").origin, "environment MLX_MOE_CACHE_SLOTS");
  EXPECT_EQ(resolve_settings({}, both).runtime.cache_slots, 6);
  EXPECT_EQ(record_of(resolve_settings({}, both), "cache_slots").origin, "environment SLUICE_CACHE_SLOTS");
  const Settings flag = resolve_settings({{"cache-slots", "7"}}, both);
  EXPECT_EQ(flag.runtime.cache_slots, 7);
  EXPECT_EQ(record_of(flag, "cache_slots").value, "7");
  EXPECT_EQ(record_of(flag, "cache_slots").origin, "flag --cache-slots");
}

TEST(Settings, EmptyVariableCountsAsNotSet) {
  EXPECT_FALSE(resolve_settings({}, {{"SLUICE_CACHE_SLOTS", ""}}).runtime.cache_slots.has_value());
}

TEST(Settings, EveryFlagHasItsVariable) {
  // A value each setting accepts, and that differs from its default.
  const std::map<std::string, std::string> values{
      {"cache-slots", "8"},    {"memory", "2GiB"},     {"threads", "3"},         {"ctx-size", "100"},
      {"io", "pread"},         {"policy", "lru"},      {"prefetch", "off"},      {"experts-per-token", "2"},
      {"moe-path", "stacked"}, {"activations", "f32"}, {"cache-type", "bf16"},   {"prefill-chunk", "64"},
      {"stream-experts", "1"}, {"stats", "1"},         {"stats-json", "a.json"}, {"route-trace", "a.trace"},
      {"probe", "1"},          {"quiet", "1"},         {"heat", "a.json"}};
  for (const SettingRow& row : setting_table()) {
    if (!row.has_flag) continue;
    ASSERT_TRUE(values.contains(row.name)) << "no example for " << row.name;
    const std::string& value = values.at(row.name);
    const Settings by_flag = resolve_settings({{row.name, value}}, {});
    const Settings by_variable = resolve_settings({}, {{environment_name(row.name), value}});
    EXPECT_EQ(record_of(by_flag, record_name(row.name)).origin, "flag --" + row.name);
    EXPECT_EQ(record_of(by_variable, record_name(row.name)).origin, "environment " + environment_name(row.name));
    EXPECT_EQ(record_of(by_flag, record_name(row.name)).value, record_of(by_variable, record_name(row.name)).value);
    EXPECT_EQ(by_flag.runtime.threads, by_variable.runtime.threads);
    EXPECT_EQ(by_flag.runtime.io, by_variable.runtime.io);
    EXPECT_EQ(by_flag.notices.size(), by_variable.notices.size()) << row.name;
  }
}

TEST(Settings, ReachTheRuntime) {
  const Settings settings = resolve_settings({{"memory", "2GiB"},
                                              {"threads", "3"},
                                              {"ctx-size", "100"},
                                              {"io", "pread"},
                                              {"policy", "lru"},
                                              {"experts-per-token", "2"},
                                              {"moe-path", "stacked-split"},
                                              {"activations", "f32"},
                                              {"cache-type", "bf16"},
                                              {"prefill-chunk", "64"},
                                              {"stats", "1"},
                                              {"stats-json", "a.json"},
                                              {"route-trace", "a.trace"},
                                              {"quiet", "1"}},
                                             {{"SLUICE_ISA", "scalar"}});
  EXPECT_EQ(settings.runtime.memory, 2 * kGiB);
  EXPECT_EQ(settings.runtime.threads, 3);
  EXPECT_EQ(settings.runtime.ctx_size, 100);
  EXPECT_EQ(settings.runtime.io, "pread");
  EXPECT_EQ(settings.runtime.policy, "lru");
  EXPECT_EQ(settings.runtime.experts_per_token, 2);
  EXPECT_EQ(settings.runtime.moe_path, MoePath::stacked_split);
  EXPECT_EQ(settings.runtime.activations, kernels::ActivationKind::f32);
  EXPECT_EQ(settings.runtime.cache_type, DType::bf16);
  EXPECT_EQ(settings.runtime.prefill_chunk, 64);
  EXPECT_EQ(settings.runtime.isa, "scalar");
  EXPECT_TRUE(settings.stats);
  EXPECT_TRUE(settings.quiet);
  EXPECT_EQ(settings.stats_json, "a.json");
  EXPECT_EQ(settings.route_trace, "a.trace");
}

TEST(Settings, EveryMoePathHasItsName) {
  const std::vector<std::pair<std::string, MoePath>> paths{{"auto", MoePath::automatic},
                                                           {"fused", MoePath::fused},
                                                           {"stacked", MoePath::stacked},
                                                           {"stacked-split", MoePath::stacked_split},
                                                           {"per-expert", MoePath::per_expert}};
  for (const auto& [name, path] : paths) {
    EXPECT_EQ(resolve_settings({{"moe-path", name}}, {}).runtime.moe_path, path) << name;
  }
}

TEST(Settings, BadValueNamesWhereItCameFrom) {
  EXPECT_THAT(usage_error([] {
                resolve_settings({{"threads", "many"}}, {});
              }),
              AllOf(HasSubstr("--threads"), HasSubstr("'many'")));
  EXPECT_THAT(usage_error([] { resolve_settings({}, {{"SLUICE_THREADS", "-1"}}); }), HasSubstr("SLUICE_THREADS"));
  EXPECT_THAT(usage_error([] { resolve_settings({}, {{"SWIFTLM_TOP_K", "x"}}); }), HasSubstr("SWIFTLM_TOP_K"));
  EXPECT_THAT(usage_error([] { resolve_settings({{"memory", "lots"}}, {}); }), HasSubstr("--memory"));
  EXPECT_THAT(usage_error([] {
                resolve_settings({{"policy", "fifo"}}, {});
              }),
              AllOf(HasSubstr("--policy"), HasSubstr("lru"), HasSubstr("decay")));
  EXPECT_THAT(usage_error([] { resolve_settings({}, {{"SLUICE_STATS", "perhaps"}}); }), HasSubstr("SLUICE_STATS"));
  EXPECT_THAT(usage_error([] { resolve_settings({{"stats-json", ""}}, {}); }), HasSubstr("--stats-json"));
}

TEST(Settings, NumbersHaveNoTail) {
  for (const char* text : {"8x", " 8", "8 ", "", "0x8", "8.0", "99999999999"}) {
    EXPECT_THROW(resolve_settings({{"cache-slots", text}}, {}), UsageError) << text;
  }
}

TEST(Settings, SwitchesOfThePathFollowTheTable) {
  const auto path = [](const Environment& environment) { return resolve_settings({}, environment).runtime.moe_path; };
  EXPECT_EQ(path({{"SLUICE_MOE_STACKED", "0"}}), MoePath::per_expert);
  EXPECT_EQ(path({{"SLUICE_MOE_STACKED", "1"}, {"SLUICE_MOE_FUSE_GATEUP", "0"}}), MoePath::stacked_split);
  EXPECT_EQ(path({{"SLUICE_MOE_STACKED", "1"}, {"SLUICE_MOE_FUSE_GATEUP", "1"}}), MoePath::stacked);
  EXPECT_EQ(path({{"SLUICE_MOE_STACKED", "1"}}), MoePath::stacked);
  EXPECT_EQ(path({{"MLX_MOE_STACKED", "1"}, {"MLX_MOE_FUSE_GATEUP", "0"}}), MoePath::stacked_split);
  EXPECT_EQ(path({{"MLX_MOE_STACKED", "0"}, {"SLUICE_MOE_STACKED", "1"}}), MoePath::stacked);
}

TEST(Settings, SwitchedPathIsRecordedWithItsOrigin) {
  const Settings settings = resolve_settings({}, {{"MLX_MOE_STACKED", "0"}});
  EXPECT_EQ(record_of(settings, "moe_path").value, "per-expert");
  EXPECT_EQ(record_of(settings, "moe_path").origin, "environment MLX_MOE_STACKED");
  EXPECT_THAT(settings.notices, IsEmpty());
}

TEST(Settings, MoePathWinsOverTheSwitchesAndSaysSo) {
  const Settings settings = resolve_settings({{"moe-path", "fused"}}, {{"SLUICE_MOE_STACKED", "0"}});
  EXPECT_EQ(settings.runtime.moe_path, MoePath::fused);
  EXPECT_THAT(settings.notices, ElementsAre(AllOf(HasSubstr("requested SLUICE_MOE_STACKED=0"),
                                                  HasSubstr("got --moe-path fused because"))));
}

TEST(Settings, AgreeingPathAndSwitchesSayNothing) {
  EXPECT_THAT(resolve_settings({{"moe-path", "per-expert"}}, {{"SLUICE_MOE_STACKED", "0"}}).notices, IsEmpty());
}

TEST(Settings, FuseSwitchWithoutEffectIsReported) {
  EXPECT_THAT(resolve_settings({}, {{"SLUICE_MOE_FUSE_GATEUP", "0"}}).notices,
              ElementsAre(HasSubstr("requested SLUICE_MOE_FUSE_GATEUP=0")));
}

TEST(Settings, WhatHasNoEffectIsReported) {
  const Settings q8 = resolve_settings({{"cache-type", "q8"}}, {});
  EXPECT_THAT(q8.notices, IsEmpty());
  EXPECT_EQ(q8.runtime.cache_type, DType::i8);
  EXPECT_EQ(record_of(q8, "cache_type").value, "q8");
  EXPECT_THAT(resolve_settings({}, {{"SLUICE_STREAM_EXPERTS", "0"}}).notices,
              ElementsAre(HasSubstr("SLUICE_STREAM_EXPERTS")));
  EXPECT_THAT(resolve_settings({{"prefetch", "auto"}, {"stream-experts", "1"}}, {}).notices, IsEmpty());
}

TEST(Settings, MmapAndMemoryExcludeEachOther) {
  EXPECT_THAT(usage_error([] { resolve_settings({{"io", "mmap"}, {"memory", "1GiB"}}, {}); }), HasSubstr("--memory"));
}

TEST(Settings, UnknownVariableIsAnErrorWithSuggestion) {
  EXPECT_THAT(usage_error([] {
                check_environment({{"SLUICE_CACHE_SLOT", "8"}});
              }),
              AllOf(HasSubstr("SLUICE_CACHE_SLOT:"), HasSubstr("did you mean SLUICE_CACHE_SLOTS?")));
  EXPECT_THAT(usage_error([] { check_environment({{"SLUICE_", "8"}}); }), HasSubstr("SLUICE_"));
  EXPECT_EQ(usage_error([] { check_environment({{"SLUICE_STATS", "1"}, {"SLUICEX", "1"}, {"PATH", "/bin"}}); }), "");
}

TEST(SettingTable, NamesAreUnique) {
  std::set<std::string> names;
  for (const SettingRow& row : setting_table()) {
    EXPECT_TRUE(names.insert(environment_name(row.name)).second) << row.name;
    if (!row.alias.empty()) {
      EXPECT_TRUE(names.insert(row.alias).second) << row.alias;
    }
  }
}

}  // namespace
}  // namespace sluice::tools
