#include "find_model.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "base/error.h"

namespace sluice::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEmbedded = "inkwell-44m";

bool has_config(const fs::path& directory) {
  std::error_code ignored;
  return fs::exists(directory / "config.json", ignored);
}

/// Where the hub's own tools keep downloads.
fs::path hugging_face_cache(const Environment& environment) {
  if (const auto cache = get(environment, "HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const auto home = get(environment, "HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const auto cache = get(environment, "XDG_CACHE_HOME"); !cache.empty()) {
    return fs::path(cache) / "huggingface" / "hub";
  }
  return fs::path(get(environment, "HOME")) / ".cache" / "huggingface" / "hub";
}

/// org/name: one slash, something on both sides, not a path like ./name or ../name.
bool is_repository_name(const std::string& name) {
  const auto slash = name.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < name.size() &&
         name.find('/', slash + 1) == std::string::npos && name.front() != '.' && name.front() != '~';
}

/// The snapshot of refs/main, or else the newest one; empty if there is none with a config.json.
fs::path snapshot_of(const fs::path& repository) {
  const fs::path snapshots = repository / "snapshots";
  std::string commit;
  if (std::ifstream(repository / "refs" / "main") >> commit && has_config(snapshots / commit)) {
    return snapshots / commit;
  }
  std::vector<fs::path> found;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(snapshots, none)) {
    if (has_config(entry.path())) found.push_back(entry.path());
  }
  if (found.empty()) return {};
  return *std::max_element(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    return fs::last_write_time(a) < fs::last_write_time(b);
  });
}

fs::path find_by_name(const std::string& name, const Environment& environment) {
  std::error_code ignored;
  if (has_config(name)) return name;
  if (fs::is_directory(name, ignored)) fail("{}: no config.json in this directory; expected a model directory", name);
  if (fs::exists(name, ignored)) fail("{}: is a file; expected the directory of a model, with config.json", name);
  if (!is_repository_name(name)) fail("{}: no such directory", name);
  std::string folder = "models--" + name;
  folder.replace(folder.find('/'), 1, "--");
  const fs::path repository = hugging_face_cache(environment) / folder;
  const fs::path snapshot = snapshot_of(repository);
  if (snapshot.empty()) {
    fail("{}: no such directory, and no snapshot with a config.json in {}; fetch it with: hf download {}", name,
         repository.string(), name);
  }
  return snapshot;
}

fs::path find_embedded(const fs::path& program) {
  const fs::path installed = program.parent_path().parent_path() / SLUICE_MODELS_DIR / kEmbedded;
  const fs::path source = fs::path(SLUICE_SOURCE_MODELS_DIR) / kEmbedded;
  for (const fs::path& place : {installed, source}) {
    if (has_config(place)) return place;
  }
  fail("the embedded model is missing: neither {} nor {} has a config.json; name a model with -m", installed.string(),
       source.string());
}

}  // namespace

ModelChoice find_model(const std::optional<std::string>& name, const Environment& environment,
                       const fs::path& program) {
  if (name) return {find_by_name(*name, environment), false};
  return {find_embedded(program), true};
}

fs::path program_path() { return fs::read_symlink("/proc/self/exe"); }

}  // namespace sluice::tools
