#pragma once

#include <cstdint>

#include "minicpmv/chat/v1/conversation.pb.h"
#include "minicpmv/decode/v1/decode_service.pb.h"
#include "runtime/model/prompt.h"
#include "runtime/text/reply_text.h"
#include "services/router/router_model.h"

namespace minicpmv::router {

// A client's options as the stages take them. What is unset stays the model's default.
decode::v1::Sampling SamplingOf(const chat::v1::ReplyOptions& options, uint64_t seed);
// max_new_tokens is cut to what a context with `prompt_tokens` in it leaves, of which there has to
// be some.
decode::v1::Limits LimitsOf(const chat::v1::ReplyOptions& options, const RouterModel& model,
                            int64_t prompt_tokens);
ReplyText::Options TextOf(const chat::v1::ReplyOptions& options, const RouterModel& model);
PromptOptions LayoutOf(const chat::v1::ReplyOptions& options, const RouterModel& model);
// Of one medium, whose own options come first.
common::v1::MediaOptions MediaOptionsOf(const chat::v1::ReplyOptions& options,
                                        const chat::v1::Media& medium);

}  // namespace minicpmv::router
