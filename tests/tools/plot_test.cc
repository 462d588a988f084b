// Charts: points where the axes say, round ticks, names that do not overlap.
#include "plot.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

namespace sluice::tools {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// All first groups of a pattern in a text.
std::vector<std::string> all(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (auto at = std::sregex_iterator(text.begin(), text.end(), regex); at != std::sregex_iterator(); ++at) {
    found.push_back((*at)[1]);
  }
  return found;
}

Plot example() {
  return {.title = "rates <of> A & B",
          .x_label = "slots",
          .y_label = "hits",
          .y_max = 100,
          .lines = {{"low", {{8, 20}, {64, 90}}}, {"high", {{8, 50}, {64, 90}}}}};
}

TEST(Plot, AxesHaveRoundTicks) {
  const std::string svg = plot_svg({example()});
  EXPECT_THAT(all(svg, "text-anchor=\"end\">([^<]*)<"),
              ElementsAre("0", "10", "20", "30", "40", "50", "60", "70", "80", "90", "100"));
  EXPECT_THAT(all(svg, "text-anchor=\"middle\">([0-9]+)<"), ElementsAre("0", "10", "20", "30", "40", "50", "60"));
}

TEST(Plot, PointsLieWhereTheirTicksAre) {
  Plot plot = example();
  plot.lines = {{"one", {{30, 40}, {60, 100}}}};
  const std::string svg = plot_svg({plot});
  const auto x = all(svg, "cx=\"([0-9.]+)\"");
  const auto y = all(svg, "cy=\"([0-9.]+)\"");
  const std::string tick_30 = all(svg, "<text x=\"([0-9.]+)\" y=\"[0-9.]+\" text-anchor=\"middle\">30<").at(0);
  const std::string tick_60 = all(svg, "<text x=\"([0-9.]+)\" y=\"[0-9.]+\" text-anchor=\"middle\">60<").at(0);
  EXPECT_THAT(x, ElementsAre(tick_30, tick_60));
  const double tick_40 = std::stod(all(svg, "y=\"([0-9.]+)\" text-anchor=\"end\">40<").at(0)) - 4.5;
  EXPECT_NEAR(std::stod(y.at(0)), tick_40, 0.11);
}

TEST(Plot, NamesOfLinesThatEndAlikeStandApart) {
  const std::string svg = plot_svg({example()});
  const double high = std::stod(all(svg, "y=\"([0-9.]+)\">high<").at(0));
  const double low = std::stod(all(svg, "y=\"([0-9.]+)\">low<").at(0));
  EXPECT_GE(low - high, 15) << "the line that was higher before is named first";
}

TEST(Plot, TextIsEscaped) {
  EXPECT_THAT(plot_svg({example()}), AllOf(HasSubstr("rates &lt;of> A &amp; B"), Not(HasSubstr("<of>"))));
}

TEST(Plot, ChartsStandBelowEachOtherInOneDocument) {
  Plot second = example();
  second.title = "second";
  const std::string one = plot_svg({example()});
  const std::string two = plot_svg({example(), second});
  EXPECT_THAT(all(two, "(<svg)"), ElementsAre("<svg"));
  EXPECT_THAT(all(two, "bold\">([^<]*)<"), ElementsAre("rates &lt;of> A &amp; B", "second"));
  const auto height = [](const std::string& svg) {
    return std::stod(all(svg, "<svg [^>]* height=\"([0-9.]+)\"").at(0));
  };
  EXPECT_EQ(height(two), 2 * height(one));
  EXPECT_THAT(all(two, "translate\\(0 ([0-9.]+)\\)"), ElementsAre("0", fmt::format("{}", height(one))));
}

TEST(Plot, NothingToDrawIsStillADocument) {
  Plot plot = example();
  plot.lines = {{"none", {}}};
  const std::string svg = plot_svg({plot});
  EXPECT_THAT(svg, AllOf(HasSubstr("<svg"), HasSubstr("</svg>"), Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
}

}  // namespace
}  // namespace sluice::tools
