// Line charts as SVG.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice::tools {

struct PlotLine {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending
};

/// A chart with both axes from zero.
struct Plot {
  std::string title;
  std::string x_label, y_label;
  double y_max = 0;  // > 0; the x axis ends with the points
  std::vector<PlotLine> lines;
};

/// A standalone SVG document, one chart below the other: axes with round ticks, a line with markers for each, its name
/// at its right end.
std::string plot_svg(const std::vector<Plot>& plots);

}  // namespace sluice::tools
