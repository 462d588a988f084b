#include "stream/reader.h"
