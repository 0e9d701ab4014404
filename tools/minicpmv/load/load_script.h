#pragma once

#include <string>

#include "tools/minicpmv/load/load_plan.h"

namespace minicpmv {

// A conversation's first turn as one line of JSON, line feed and all, as the load tool aiperf reads
// it to send the same load through an OpenAI API (aiperf profile --custom-dataset-type single_turn
// --fixed-schedule --input-file FILE): {"timestamp": milliseconds, "text", "images": [data URIs],
// "output_length", "extra": fields of the request's body}. The reply is greedy and as long as
// planned, as one of a LoadRun is. Its form has no place for later turns, which repeat the reply.
std::string ScriptLineOf(const PlannedConversation& conversation, double tokens_per_word);

}  // namespace minicpmv
