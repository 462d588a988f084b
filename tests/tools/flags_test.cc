// Parsing of flags, help texts, and that the tables of docs/ are the program's own.
#include "flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "model_copy.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Parsed {
  std::string text, file, bare;
  std::vector<std::string> pair;
  bool on = false;
  int applied = 0;
};

VerbFlags make_flags(Parsed& parsed) {
  VerbFlags verb{"test", "test [flags]", "for tests", {}};
  verb.flags.push_back({"-t,--text,--words", "TEXT", "One", "some words", [&](const Given& given) {
                          parsed.text = given.text;
                          ++parsed.applied;
                        }});
  verb.flags.push_back({"-fi,--file", "FILE", "One", "a|b", [&](const Given& given) { parsed.file = given.text; }});
  verb.flags.push_back({"--on", "", "Two", "a switch", [&](const Given& given) { parsed.on = given.text == "1"; }});
  verb.flags.push_back({.names = "--pair",
                        .value = "A B",
                        .group = "Two",
                        .help = "two values",
                        .apply = [&](const Given& given) { parsed.pair.emplace_back(given.text); },
                        .values = 2});
  verb.flags.push_back({"BARE", "", "Two", "positional", [&](const Given& given) { parsed.bare = given.text; }});
  return verb;
}

bool parse(Parsed& parsed, std::vector<std::string> arguments) {
  return parse_flags(make_flags(parsed), std::move(arguments));
}

std::string usage_error(std::vector<std::string> arguments) {
  Parsed parsed;
  try {
    parse(parsed, std::move(arguments));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(Flags, EverySpellingWorks) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"-t", "x"}, {"-tx"}, {"--text", "x"}, {"--text=x"}, {"--words", "x"}}) {
    Parsed parsed;
    EXPECT_TRUE(parse(parsed, arguments));
    EXPECT_EQ(parsed.text, "x") << arguments.front();
  }
}

TEST(Flags, ValuesAreTakenAsTheyAre) {
  for (const char* value : {"-", "--on", "-5", "a,b", "[a,b]", "a b\nc", "", "\"q\"", "{}"}) {
    Parsed parsed;
    parse(parsed, {"--text", value});
    EXPECT_EQ(parsed.text, value);
    EXPECT_FALSE(parsed.on);
  }
}

TEST(Flags, LastOneCounts) {
  Parsed parsed;
  parse(parsed, {"--text", "a", "--text", "b"});
  EXPECT_EQ(parsed.text, "b");
  EXPECT_EQ(parsed.applied, 1);
}

TEST(Flags, TwoValuesComeInTheirOrder) {
  for (const std::vector<std::string>& values :
       std::vector<std::vector<std::string>>{{"a=1 b=2", "c,d"}, {"", "x"}, {"x", ""}, {"", ""}, {"--on", "-t"}}) {
    Parsed parsed;
    parse(parsed, {"--pair", values[0], values[1], "word"});
    EXPECT_EQ(parsed.pair, values);
    EXPECT_EQ(parsed.bare, "word");
    EXPECT_FALSE(parsed.on);
  }
  Parsed last;
  parse(last, {"--pair", "a", "b", "--pair", "c", "d"});
  EXPECT_EQ(last.pair, (std::vector<std::string>{"c", "d"}));
  EXPECT_THAT(usage_error({"--pair", "a"}), HasSubstr("--pair"));
}

TEST(Flags, SwitchAndPositional) {
  Parsed parsed;
  parse(parsed, {"--on", "word"});
  EXPECT_TRUE(parsed.on);
  EXPECT_EQ(parsed.bare, "word");
}

TEST(Flags, SeveralLettersAfterOneDash) {
  Parsed parsed;
  parse(parsed, {"-fi", "x"});
  EXPECT_EQ(parsed.file, "x");
}

TEST(Flags, UnknownFlagGetsTheNearest) {
  EXPECT_THAT(usage_error({"--texd", "x"}), AllOf(HasSubstr("unknown flag --texd"), HasSubstr("did you mean --text?")));
  EXPECT_THAT(usage_error({"--texd=x"}), HasSubstr("unknown flag --texd;"));
  EXPECT_THAT(usage_error({"--hepl"}), HasSubstr("did you mean --help?"));
}

TEST(Flags, MissingValueAndSurplusArgumentAreNamed) {
  EXPECT_THAT(usage_error({"--text"}), HasSubstr("--text"));
  EXPECT_THAT(usage_error({"one", "two"}), HasSubstr("'two'"));
}

TEST(Flags, HelpIsAskedForWhateverElseIsMissing) {
  Parsed parsed;
  EXPECT_FALSE(parse(parsed, {"--help"}));
  VerbFlags verb = make_flags(parsed);
  verb.flags.front().required = true;
  EXPECT_FALSE(parse_flags(verb, {"-h"}));
  EXPECT_THROW(parse_flags(verb, {}), UsageError);
}

TEST(Help, NamesEverything) {
  Parsed parsed;
  EXPECT_THAT(help_text(make_flags(parsed)),
              AllOf(HasSubstr("usage: sluice test [flags]"), HasSubstr("One:"), HasSubstr("Two:"),
                    HasSubstr("-t, --text, --words TEXT"), HasSubstr("a switch")));
}

TEST(Help, MarkdownEscapesBars) {
  Parsed parsed;
  EXPECT_THAT(help_markdown(make_flags(parsed), Tables::own), HasSubstr("| `-fi`, `--file` FILE | a\\|b |"));
}

TEST(Help, FitsATerminal) {
  for (const Verb& verb : verbs()) {
    Action action;
    std::string text = help_text(flags_of(verb, action));
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      EXPECT_LE(end - begin, 120U) << text.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

std::string documentation(const std::string& name) {
  return testing::read_file(std::filesystem::path(SLUICE_SOURCE_DIR) / "docs" / name);
}

TEST(Documentation, UsageHasTheFlagsOfEveryVerb) {
  const std::string usage = documentation("usage.md");
  for (const Verb& verb : verbs()) {
    Action action;
    for (const Tables tables : {Tables::own, Tables::settings}) {
      const std::string table = help_markdown(flags_of(verb, action), tables);
      EXPECT_NE(usage.find(table), std::string::npos) << "docs/usage.md should have:\n" << table;
    }
  }
}

TEST(Documentation, EnvironmentHasEveryVariable) {
  const std::string table = environment_markdown();
  EXPECT_NE(documentation("environment.md").find(table), std::string::npos) << "should have:\n" << table;
}

}  // namespace
}  // namespace sluice::tools
