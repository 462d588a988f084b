#include "cache/expert_cache.h"
