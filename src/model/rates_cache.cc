#include "model/rates_cache.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/units.h"
#include "model/json_file.h"
#include "model/plan.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kVersion = 3;
constexpr std::uint64_t kMaxFileBytes = 256 * kKiB;
constexpr std::size_t kMaxEntries = 64;
constexpr double kMaxRate = 1e15;   // bytes or multiplications per second; no machine comes near it
constexpr double kMaxLatency = 60;  // seconds; likewise

struct Entry {
  std::string key;
  double disk = 0, memory = 0, multiply = 0, disk_latency = 0, measured = 0;
};

/// A number in (0, most]; 0 if it is anything else.
double positive(const json& entry, const char* name, double most) {
  const auto found = entry.find(name);
  if (found == entry.end() || !found->is_number()) return 0;
  const auto value = found->get<double>();
  return value > 0 && value <= most ? value : 0;
}

std::vector<Entry> read_entries(const fs::path& file, double now) {
  std::vector<Entry> entries;
  json document;
  try {
    if (!file_exists(file)) return entries;
    document = parse_json(read_text_file(file, kMaxFileBytes), file.string());
  } catch (const Error&) {
    return entries;  // whatever is wrong with it, the next store() replaces it
  }
  if (!document.is_object() || document.value("version", json()) != kVersion) return entries;
  const json rates = document.value("rates", json::array());
  if (!rates.is_array()) return entries;
  for (const json& item : rates) {
    if (!item.is_object() || !item.contains("key") || !item["key"].is_string()) continue;
    const Entry entry{.key = item["key"].get<std::string>(),
                      .disk = positive(item, "disk_bytes_per_s", kMaxRate),
                      .memory = positive(item, "memory_bytes_per_s", kMaxRate),
                      .multiply = positive(item, "multiplications_per_s", kMaxRate),  // 0: there were no experts
                      .disk_latency = positive(item, "disk_latency_s", kMaxLatency),  // 0: was not measured
                      .measured = positive(item, "measured", now)};                   // never in the future
    if (entry.disk > 0 && entry.memory > 0 && entry.measured > 0) entries.push_back(entry);
  }
  return entries;
}

std::string to_text(const std::vector<Entry>& entries) {
  json rates = json::array();
  for (const Entry& entry : entries) {
    rates.push_back({{"key", entry.key},
                     {"disk_bytes_per_s", entry.disk},
                     {"memory_bytes_per_s", entry.memory},
                     {"multiplications_per_s", entry.multiply},
                     {"disk_latency_s", entry.disk_latency},
                     {"measured", entry.measured}});
  }
  // A processor's name may be no UTF-8.
  return json{{"version", kVersion}, {"rates", rates}}.dump(1, ' ', false, json::error_handler_t::replace) + '\n';
}

/// All or nothing: a reader sees the old file or the new one.
void replace_file(const fs::path& file, const std::string& text) {
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  fs::path temporary = file;
  temporary += fmt::format(".{}.tmp", getpid());
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out) fs::rename(temporary, file, error);
  if (!out || error) fs::remove(temporary, error);
}

/// The largest power of two up to it, so that a few bytes more or less make no other key.
std::string size_class(std::uint64_t bytes) { return format_bytes(std::bit_floor(bytes)); }

std::string cpu_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  const std::string text{std::istreambuf_iterator<char>(cpuinfo), {}};
  const std::string_view name = parse_cpu_name(text);
  return name.empty() ? "unknown CPU" : std::string(name);
}

/// "768x2048 affine 4-bit g64 bf16 by int16, avx2": what the rate of multiplication depends on.
std::string product_name(const ExpertLayout& experts, const kernels::Context& context) {
  const bool exact = context.activations == kernels::ActivationKind::f32;
  return fmt::format("{}x{} {} by {}, {}", experts.up.rows, experts.up.cols, kernels::to_string(experts.up.format),
                     exact ? "f32" : "int16", context.isa.name);
}

/// "8:1" of the file system that holds the file.
std::string device_of(const fs::path& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return "unknown";
  return fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
}

}  // namespace

RatesCache::RatesCache(fs::path file, UnixClock clock) : file_(std::move(file)), clock_(std::move(clock)) {}

double RatesCache::system_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::optional<Rates> RatesCache::find(std::string_view key) const {
  if (file_.empty()) return std::nullopt;
  const double now = clock_();
  for (const Entry& entry : read_entries(file_, now)) {
    if (entry.key == key) {
      return Rates{.disk = entry.disk,
                   .memory = entry.memory,
                   .multiply = entry.multiply,
                   .disk_latency = entry.disk_latency,
                   .drive = {},
                   .age_seconds = now - entry.measured};
    }
  }
  return std::nullopt;
}

void RatesCache::store(std::string_view key, const Rates& rates) const {
  if (file_.empty() || rates.disk <= 0 || rates.memory <= 0) return;
  const double now = clock_();
  std::vector<Entry> entries = read_entries(file_, now);
  std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; });
  entries.push_back({.key = std::string(key),
                     .disk = rates.disk,
                     .memory = rates.memory,
                     .multiply = rates.multiply,
                     .disk_latency = rates.disk_latency,
                     .measured = now});
  // Latest last; the front is what nobody has measured for the longest time.
  if (entries.size() > kMaxEntries) entries.erase(entries.begin(), entries.end() - kMaxEntries);
  replace_file(file_, to_text(entries));
}

std::string_view parse_cpu_name(std::string_view cpuinfo) {
  constexpr std::string_view kName = "model name";
  const std::size_t line = cpuinfo.find(kName);
  if (line == std::string_view::npos) return {};
  std::string_view rest = cpuinfo.substr(line);
  rest = rest.substr(0, rest.find('\n'));
  const std::size_t colon = rest.find(": ");
  return colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 2);
}

std::string rates_key(const ModelPlan& plan, const stream::IoChoice& choice, const kernels::Context& context) {
  const auto memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(getpagesize());
  const std::span<const stream::FileInfo> files = plan.checkpoint.files();
  std::uint64_t file_bytes = 0;
  for (const stream::FileInfo& file : files) file_bytes += file.bytes;
  const std::vector<ExpertLayout>& experts = plan.experts;
  return fmt::format("{}, {} CPUs, {} GiB; {} threads; device {}, {} {}; files {}, weights {}; {}", cpu_name(),
                     sysconf(_SC_NPROCESSORS_CONF), (memory + kGiB / 2) / kGiB, context.team.size(),
                     device_of(files.front().path), choice.engine, choice.direct ? "direct" : "buffered",
                     size_class(file_bytes), size_class(plan.dense.weight_bytes()),
                     experts.empty() ? "no experts" : product_name(experts.front(), context));
}

Rates cached_rates(Model& model, const RatesCache& cache, bool refresh) {
  const std::string key = rates_key(model.plan(), model.reader().choice(), model.context());
  if (!refresh) {
    if (std::optional<Rates> rates = cache.find(key)) return *std::move(rates);
  }
  Rates rates = measure_prompt_rates(model);
  cache.store(key, rates);
  return rates;
}

}  // namespace sluice::model
