#include "model/tokenizer/tokenizer.h"
