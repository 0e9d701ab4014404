#include "runtime/model/family.h"

namespace minicpmv {
namespace {

// Source: the checkpoint and the code published as openbmb/MiniCPM-V-2_6.
constexpr Family kFamilies[] = {
    {.name = "MiniCPM-V 2.6",
     .version = 2.6,
     .language = {.embedding = "llm.model.embed_tokens",
                  .input_norm = "llm.model.layers.{}.input_layernorm",
                  .post_attention_norm = "llm.model.layers.{}.post_attention_layernorm",
                  .q = "llm.model.layers.{}.self_attn.q_proj",
                  .k = "llm.model.layers.{}.self_attn.k_proj",
                  .v = "llm.model.layers.{}.self_attn.v_proj",
                  .o = "llm.model.layers.{}.self_attn.o_proj",
                  .gate = "llm.model.layers.{}.mlp.gate_proj",
                  .up = "llm.model.layers.{}.mlp.up_proj",
                  .down = "llm.model.layers.{}.mlp.down_proj",
                  .final_norm = "llm.model.norm",
                  .lm_head = "llm.lm_head"},
     .vision = {.patch = "vpm.embeddings.patch_embedding",
                .norm1 = "vpm.encoder.layers.{}.layer_norm1",
                .norm2 = "vpm.encoder.layers.{}.layer_norm2",
                .q = "vpm.encoder.layers.{}.self_attn.q_proj",
                .k = "vpm.encoder.layers.{}.self_attn.k_proj",
                .v = "vpm.encoder.layers.{}.self_attn.v_proj",
                .out = "vpm.encoder.layers.{}.self_attn.out_proj",
                .fc1 = "vpm.encoder.layers.{}.mlp.fc1",
                .fc2 = "vpm.encoder.layers.{}.mlp.fc2",
                .final_norm = "vpm.post_layernorm",
                .positions = "vpm.embeddings.position_embedding.weight"},
     .resampler = {.out = "resampler.attn.out_proj",
                   .norm_q = "resampler.ln_q",
                   .norm_kv = "resampler.ln_kv",
                   .norm_post = "resampler.ln_post",
                   .query = "resampler.query",
                   .kv = "resampler.kv_proj.weight",
                   .in_weight = "resampler.attn.in_proj_weight",
                   .in_bias = "resampler.attn.in_proj_bias",
                   .proj = "resampler.proj"},
     .marks = {.message_start = "<|im_start|>",
               .message_end = "<|im_end|>",
               .after_role = "\n",
               .after_message = "\n",
               .image_start = "<image>",
               .image_end = "</image>",
               .slice_start = "<slice>",
               .slice_end = "</slice>",
               .image_id_start = "<image_id>",
               .image_id_end = "</image_id>",
               .placeholder = "<unk>",
               .default_system = "You are a helpful assistant."},
     .stop_tokens = {"<|im_end|>", "<|endoftext|>"},
     .qkv_bias = true,
     .resampler_head_size = 128,
     .max_prompt_tokens = 8192,
     .generation = {.temperature = 0.7, .top_p = 0.8, .top_k = 100, .repetition_penalty = 1.05, .max_new_tokens = 2048}},
};

}  // namespace

absl::Span<const Family> Families() { return kFamilies; }

}  // namespace minicpmv
