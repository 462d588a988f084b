// Rates from an earlier run: found under the same key alone, and never the cause of an error.
#include "model/rates_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <string>
#include <vector>

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

class RatesCacheTest : public ::testing::Test {
 protected:
  RatesCacheTest() {
    std::string pattern = ::testing::TempDir() + "sluice_rates_XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~RatesCacheTest() override { fs::remove_all(directory_); }

  fs::path file() const { return directory_ / "new" / "rates.json"; }
  RatesCache cache() {
    return RatesCache(file(), [this] { return now_; });
  }
  void write(const std::string& text) const {
    fs::create_directories(file().parent_path());
    std::ofstream(file()) << text;
  }
  std::string read() const {
    std::ifstream in(file());
    return {std::istreambuf_iterator<char>(in), {}};
  }

  fs::path directory_;
  double now_ = 1000;
};

const Rates kRates{
    .disk = 1.5e9, .memory = 28e9, .multiply = 9e10, .disk_latency = 80e-6, .drive = {}, .age_seconds = {}};

TEST_F(RatesCacheTest, KeepsRatesByKeyWithTheirAge) {
  EXPECT_FALSE(cache().find("a"));
  cache().store("a", kRates);
  now_ += 90;
  const std::optional<Rates> found = cache().find("a");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->disk, 1.5e9);
  EXPECT_EQ(found->memory, 28e9);
  EXPECT_EQ(found->multiply, 9e10);
  EXPECT_EQ(found->age_seconds, 90);
  EXPECT_FALSE(cache().find("b"));

  cache().store("b", kRates);
  Rates faster = kRates;
  faster.disk = 2e9;
  cache().store("a", faster);
  EXPECT_EQ(cache().find("a")->disk, 2e9);
  EXPECT_EQ(cache().find("a")->age_seconds, 0);
  EXPECT_TRUE(cache().find("b"));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(file().parent_path())) names.push_back(entry.path().filename());
  EXPECT_THAT(names, ::testing::ElementsAre("rates.json"));
}

TEST_F(RatesCacheTest, UnknownRatesAreNotKept) {
  cache().store("a", {.disk = 0, .memory = 1, .drive = {}, .age_seconds = {}});
  cache().store("a", {.disk = 1, .memory = 0, .drive = {}, .age_seconds = {}});
  EXPECT_FALSE(fs::exists(file()));
}

TEST_F(RatesCacheTest, OldKeysMakeRoom) {
  for (int i = 0; i < 70; ++i) cache().store(std::to_string(i), kRates);
  EXPECT_FALSE(cache().find("5"));
  EXPECT_TRUE(cache().find("6"));
  EXPECT_TRUE(cache().find("69"));
}

TEST_F(RatesCacheTest, AnythingElseCountsAsEmpty) {
  cache().store("a", kRates);
  const std::string good = read();
  ASSERT_TRUE(cache().find("a"));
  for (std::size_t end = 0; end + 2 < good.size(); end += 3) {
    write(good.substr(0, end));
    EXPECT_FALSE(cache().find("a")) << end;
  }
  const auto entry = [](const std::string& values) { return R"({"version": 3, "rates": [)" + values + "]}"; };
  for (const std::string& text : std::vector<std::string>{
           "[]", "7", R"({"version": 2, "rates": []})", R"({"version": 3, "rates": 3})", entry("7"), entry("{}"),
           entry(R"({"key": "a", "disk_bytes_per_s": -1, "memory_bytes_per_s": 2, "measured": 3})"),
           entry(R"({"key": "a", "disk_bytes_per_s": NaN, "memory_bytes_per_s": 2, "measured": 3})"),
           entry(R"({"key": "a", "disk_bytes_per_s": 1e300, "memory_bytes_per_s": 2, "measured": 3})"),
           entry(R"({"key": "a", "disk_bytes_per_s": "1", "memory_bytes_per_s": 2, "measured": 3})"),
           entry(R"({"key": "a", "disk_bytes_per_s": 1, "memory_bytes_per_s": 2, "measured": 1001})"),
           entry(R"({"key": ["a"], "disk_bytes_per_s": 1, "memory_bytes_per_s": 2, "measured": 3})"),
           std::string(1 << 20, ' ') + good}) {
    write(text);
    EXPECT_FALSE(cache().find("a")) << text.substr(0, 100);
  }
  write(entry(R"({"key": "a", "disk_bytes_per_s": 1, "memory_bytes_per_s": 2, "measured": 3})"));
  EXPECT_TRUE(cache().find("a"));
  write("broken");
  cache().store("a", kRates);
  EXPECT_EQ(cache().find("a")->disk, 1.5e9);
  EXPECT_EQ(cache().find("a")->disk_latency, 80e-6);
  EXPECT_EQ(cache().find("a")->multiply, 9e10);
}

TEST_F(RatesCacheTest, WhatCannotBeWrittenIsNoError) {
  const RatesCache nowhere("/proc/sluice/rates.json");
  nowhere.store("a", kRates);
  EXPECT_FALSE(nowhere.find("a"));
  const RatesCache none{fs::path()};
  none.store("a", kRates);
  EXPECT_FALSE(none.find("a"));
}

std::string key_of(const Model& model) { return rates_key(model.plan(), model.reader().choice(), model.context()); }

TEST(RatesKey, NamesTheMachineAndHowItReads) {
  RuntimeSettings settings;
  settings.threads = 2;
  const auto model = Model::load(SLUICE_SOURCE_DIR "/models/inkwell-44m", settings);
  const std::string key = key_of(*model);
  EXPECT_EQ(key, key_of(*model));
  for (const std::string& part : {std::string("2 threads"), model->reader().choice().engine, std::string("device")}) {
    EXPECT_THAT(key, ::testing::HasSubstr(part));
  }
  EXPECT_THAT(key, ::testing::HasSubstr("by int16"));
  settings.activations = kernels::ActivationKind::f32;
  EXPECT_NE(key_of(*Model::load(SLUICE_SOURCE_DIR "/models/inkwell-44m", settings)), key);
  settings.activations = kernels::ActivationKind::int16;
  settings.threads = 1;
  EXPECT_NE(key_of(*Model::load(SLUICE_SOURCE_DIR "/models/inkwell-44m", settings)), key);
}

TEST(RatesKey, NameOfTheProcessor) {
  EXPECT_EQ(parse_cpu_name("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t: a b\nmodel name\t: Other\n"),
            "Some CPU @ 3 GHz");
  EXPECT_EQ(parse_cpu_name("processor\t: 0\nBogoMIPS\t: 50\n"), "");
  EXPECT_EQ(parse_cpu_name("model name"), "");
}

TEST(CachedRates, AreMeasuredOnceUnlessRefreshed) {
  std::string pattern = ::testing::TempDir() + "sluice_rates_XXXXXX";
  const fs::path directory = mkdtemp(pattern.data());
  const auto model = Model::load(SLUICE_SOURCE_DIR "/models/inkwell-44m", {});
  double now = 1000;
  const RatesCache cache(directory / "rates.json", [&] { return now; });
  const Rates measured = cached_rates(*model, cache, false);
  EXPECT_GT(measured.disk, 0);
  EXPECT_GT(measured.memory, 0);
  EXPECT_GT(measured.multiply, 0);
  EXPECT_FALSE(measured.age_seconds);
  EXPECT_FALSE(measured.drive.cells.empty());
  now += 60;
  const auto reads = model->reader().stats().reads;
  const Rates cached = cached_rates(*model, cache, false);
  EXPECT_EQ(cached.disk, measured.disk);
  EXPECT_EQ(cached.memory, measured.memory);
  EXPECT_EQ(cached.multiply, measured.multiply);
  EXPECT_EQ(cached.age_seconds, 60);
  EXPECT_EQ(age_text(cached), "measured 1 minute ago");
  EXPECT_EQ(model->reader().stats().reads, reads);
  EXPECT_FALSE(cached_rates(*model, cache, true).age_seconds);
  EXPECT_GT(model->reader().stats().reads, reads);
  fs::remove_all(directory);
}

}  // namespace
}  // namespace sluice::model
