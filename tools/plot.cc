#include "plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string_view>

namespace sluice::tools {
namespace {

// Sizes in pixels. Names of lines stand in the right margin.
constexpr double kWidth = 760, kHeight = 440;
constexpr double kLeft = 76, kRight = 140, kTop = 44, kBottom = 58;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;
constexpr double kNameHeight = 16;  // between the names of two lines

// Okabe and Ito's colours, which people with any colour vision can tell apart.
constexpr std::array<std::string_view, 7> kColors{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                  "#56b4e9", "#e69f00", "#000000"};

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '<':
        result += "&lt;";
        break;
      case '&':
        result += "&amp;";
        break;
      default:
        // XML has no way to write control characters.
        result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return result;
}

/// Distance between ticks: the smallest of 1, 2, 5 times a power of ten that gives at most `most` of them.
double tick_step(double end, int most) {
  double step = std::pow(10.0, std::floor(std::log10(end / most)));
  for (const double factor : {2.0, 2.5, 2.0}) {  // 1, 2, 5, 10
    if (end / step <= most) break;
    step *= factor;
  }
  return step;
}

/// Where the names stand: beside the ends of their lines, moved apart where those are close. Of lines that end alike
/// the one that was higher before is named first. `ends` and `means` are heights on the page, downwards.
std::vector<double> name_places(const std::vector<double>& ends, const std::vector<double>& means) {
  std::vector<std::size_t> order(ends.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return std::pair(ends[a], means[a]) < std::pair(ends[b], means[b]); });
  std::vector<double> places = ends;
  for (std::size_t i = 1; i < order.size(); ++i) {
    places[order[i]] = std::max(places[order[i]], places[order[i - 1]] + kNameHeight);
  }
  return places;
}

/// One chart, its upper left corner at the origin.
std::string chart(const Plot& plot) {
  double x_max = 0;
  for (const PlotLine& line : plot.lines) {
    for (const auto& [x, y] : line.points) x_max = std::max(x_max, x);
  }
  if (x_max <= 0) x_max = 1;
  const auto at_x = [&](double x) { return kLeft + x / x_max * kPlotWidth; };
  const auto at_y = [&](double y) { return kTop + (1 - y / plot.y_max) * kPlotHeight; };

  std::string svg = fmt::format("<text x=\"{}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n", kLeft,
                                escaped(plot.title));
  const double bottom = at_y(0);
  const double y_step = tick_step(plot.y_max, 10);
  for (double y = 0; y <= plot.y_max * (1 + 1e-9); y += y_step) {
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}h{:.1f}\" stroke=\"#ddd\"/>", kLeft, at_y(y), kPlotWidth);
    svg +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n", kLeft - 8, at_y(y) + 4.5, y);
  }
  const double x_step = tick_step(x_max, 12);
  for (double x = 0; x <= x_max * (1 + 1e-9); x += x_step) {
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}v5\" stroke=\"#222\"/>", at_x(x), bottom);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:g}</text>\n", at_x(x), bottom + 19, x);
  }
  svg += fmt::format("<path d=\"M{:.1f} {:.1f}V{:.1f}h{:.1f}\" stroke=\"#222\" fill=\"none\"/>\n", kLeft, kTop, bottom,
                     kPlotWidth);
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", kLeft + kPlotWidth / 2,
                     kHeight - 14, escaped(plot.x_label));
  svg += fmt::format("<text transform=\"translate(20 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     kTop + kPlotHeight / 2, escaped(plot.y_label));

  std::vector<double> ends, means;
  for (const PlotLine& line : plot.lines) {
    double sum = 0;
    for (const auto& [x, y] : line.points) sum += y;
    ends.push_back(line.points.empty() ? bottom : at_y(line.points.back().second));
    means.push_back(line.points.empty() ? bottom : at_y(sum / static_cast<double>(line.points.size())));
  }
  const std::vector<double> places = name_places(ends, means);
  for (std::size_t i = 0; i < plot.lines.size(); ++i) {
    const PlotLine& line = plot.lines[i];
    const std::string_view color = kColors[i % kColors.size()];
    std::string path;
    std::string markers;
    for (const auto& [x, y] : line.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", at_x(x), at_y(y));
      markers += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", at_x(x), at_y(y));
    }
    if (!path.empty()) {
      svg += fmt::format("<path d=\"{}\" stroke=\"{}\" stroke-width=\"2\" fill=\"none\"/>\n", path, color);
    }
    svg += fmt::format("<g fill=\"{}\">{}<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text></g>\n", color, markers,
                       kLeft + kPlotWidth + 12, places[i] + 4.5, escaped(line.name));
  }
  return svg;
}

}  // namespace

std::string plot_svg(const std::vector<Plot>& plots) {
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n<rect width=\"{0}\" height=\"{1}\" "
      "fill=\"#fff\"/>\n",
      kWidth, kHeight * static_cast<double>(plots.size()));
  for (std::size_t i = 0; i < plots.size(); ++i) {
    svg +=
        fmt::format("<g transform=\"translate(0 {})\">\n{}</g>\n", kHeight * static_cast<double>(i), chart(plots[i]));
  }
  return svg + "</svg>\n";
}

}  // namespace sluice::tools
