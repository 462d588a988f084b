// What -m finds: directories, names in the Hugging Face cache, the embedded model.
#include "find_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model_copy.h"

namespace sluice::tools {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ScratchDirectory;

const fs::path kProgram = "/nowhere/bin/sluice";

std::string error_of(const std::string& name, const Environment& environment = {}) {
  try {
    find_model(name, environment, kProgram);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(FindModel, DirectoryWithConfig) {
  const ScratchDirectory scratch;
  scratch.write("config.json", "{}");
  const ModelChoice choice = find_model(scratch.path().string(), {}, kProgram);
  EXPECT_EQ(choice.directory, scratch.path());
  EXPECT_FALSE(choice.embedded);
}

TEST(FindModel, NamesWhatIsWrongWithAPath) {
  const ScratchDirectory scratch;
  EXPECT_THAT(error_of(scratch.path().string()), AllOf(HasSubstr(scratch.path().string()), HasSubstr("config.json")));
  EXPECT_THAT(error_of("/no/such/directory"), HasSubstr("/no/such/directory: no such directory"));
  EXPECT_THAT(error_of("./none"), HasSubstr("./none: no such directory"));
  const fs::path file = scratch.write("model.safetensors", "");
  EXPECT_THAT(error_of(file.string()), HasSubstr("is a file"));
}

TEST(FindModel, NameInTheHuggingFaceCacheFollowsMain) {
  const ScratchDirectory scratch;
  scratch.write("models--org--name/refs/main", "bbb\n");
  scratch.write("models--org--name/snapshots/aaa/config.json", "{}");
  scratch.write("models--org--name/snapshots/bbb/config.json", "{}");
  const Environment environment{{"HF_HUB_CACHE", scratch.path().string()}};
  EXPECT_EQ(find_model("org/name", environment, kProgram).directory,
            scratch.path() / "models--org--name/snapshots/bbb");
}

TEST(FindModel, NewestSnapshotWithoutMain) {
  const ScratchDirectory scratch;
  scratch.write("models--org--name/snapshots/aaa/config.json", "{}");
  scratch.write("models--org--name/snapshots/bbb/config.json", "{}");
  const fs::path older = scratch.path() / "models--org--name/snapshots/bbb";
  fs::last_write_time(older, fs::last_write_time(older) - std::chrono::hours(1));
  const Environment environment{{"HF_HUB_CACHE", scratch.path().string()}};
  EXPECT_EQ(find_model("org/name", environment, kProgram).directory,
            scratch.path() / "models--org--name/snapshots/aaa");
}

TEST(FindModel, CacheIsLookedForAsTheHubDoes) {
  const ScratchDirectory scratch;
  const std::string root = scratch.path().string();
  const std::string below = "/models--org--name/snapshots/aaa/config.json";
  scratch.write("hub" + below, "{}");
  scratch.write("huggingface/hub" + below, "{}");
  scratch.write(".cache/huggingface/hub" + below, "{}");
  const auto directory = [](const Environment& environment) {
    return find_model("org/name", environment, kProgram).directory.string();
  };
  EXPECT_THAT(directory({{"HF_HUB_CACHE", root + "/hub"}, {"HF_HOME", "/none"}}), HasSubstr(root + "/hub/models"));
  EXPECT_THAT(directory({{"HF_HOME", root}, {"XDG_CACHE_HOME", "/none"}}), HasSubstr(root + "/hub/models"));
  EXPECT_THAT(directory({{"XDG_CACHE_HOME", root}, {"HOME", "/none"}}), HasSubstr(root + "/huggingface/hub/models"));
  EXPECT_THAT(directory({{"HOME", root}}), HasSubstr(root + "/.cache/huggingface/hub/models"));
}

TEST(FindModel, MissingNameSaysWhereItWasLookedForAndHowToGetIt) {
  EXPECT_THAT(error_of("org/name", {{"HF_HUB_CACHE", "/cache"}}),
              AllOf(HasSubstr("/cache/models--org--name"), HasSubstr("hf download org/name")));
}

TEST(FindModel, DirectoryWinsOverAName) {
  const ScratchDirectory scratch;
  scratch.write("org/name/config.json", "{}");
  scratch.write("cache/models--org--name/snapshots/aaa/config.json", "{}");
  const fs::path before = fs::current_path();
  fs::current_path(scratch.path());
  const ModelChoice choice = find_model("org/name", {{"HF_HUB_CACHE", "cache"}}, kProgram);
  fs::current_path(before);
  EXPECT_EQ(choice.directory, "org/name");
}

TEST(FindModel, EmbeddedModelBesideTheProgramComesFirst) {
  const ScratchDirectory scratch;
  scratch.write("share/sluice/models/inkwell-44m/config.json", "{}");
  const ModelChoice choice = find_model(std::nullopt, {}, scratch.path() / "bin" / "sluice");
  EXPECT_EQ(choice.directory, scratch.path() / "share/sluice/models/inkwell-44m");
  EXPECT_TRUE(choice.embedded);
}

TEST(FindModel, EmbeddedModelOfTheSourceTreeOtherwise) {
  EXPECT_EQ(find_model(std::nullopt, {}, kProgram).directory, testing::embedded_model());
}

}  // namespace
}  // namespace sluice::tools
