// A setting as it was used, for everything that reports.
#pragma once

#include <string>

namespace sluice::model {

/// Value as text, and where it came from ("flag", "environment SLUICE_X", "default", ...).
struct SettingRecord {
  std::string name;
  std::string value;
  std::string origin;
};

}  // namespace sluice::model
