// The formats of others, for parse_trace(). Promises and errors are those of parse_trace.h; whether there is a route at
// all, and the header's sizes, are left to the caller.
#pragma once

#include <string_view>

#include "model/routes/route_trace.h"

namespace sluice::model {

RouteTrace parse_csv_trace(std::string_view text, std::string_view file);
RouteTrace parse_json_lines_trace(std::string_view text, std::string_view file);

}  // namespace sluice::model
