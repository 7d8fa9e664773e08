// A recurrent layer of oneDNN for inference, as bench/precision.py calls it.
#include <unordered_map>

#include "dnnl.hpp"

using namespace dnnl;

namespace {

struct Layer {
    engine cpu{engine::kind::cpu, 0};
    stream queue{cpu};
    primitive layer;
    std::unordered_map<int, memory> given;

    // Memory of these numbers as the layer wants it.
    memory taken(const memory::dims &dims, memory::format_tag tag, const float *numbers,
                 const memory::desc &wanted)
    {
        memory whole({dims, memory::data_type::f32, tag}, cpu, const_cast<float *>(numbers));
        memory own(wanted, cpu);
        reorder(whole, own).execute(queue, whole, own);
        queue.wait();
        return own;
    }

    // kind: 0 LSTM, 1 GRU, 2 RNN. W (gates, H, I), U (gates, H, H), b (gates, H), of a GRU one more.
    Layer(int kind, long T, long B, long I, long H, bool rounded, const float *x, const float *W,
          const float *U, const float *b)
    {
        using tag = memory::format_tag;
        const auto number = rounded ? memory::data_type::bf16 : memory::data_type::f32;
        const long gates = kind == 0 ? 4 : kind == 1 ? 3 : 1, biases = kind == 1 ? 4 : gates;
        const auto what = prop_kind::forward_inference;
        const auto way = rnn_direction::unidirectional_left2right;
        const memory::desc none, src({T, B, I}, number, tag::tnc), dst({T, B, H}, number, tag::tnc),
            input({1, 1, I, gates, H}, number, tag::any), recurrent({1, 1, H, gates, H}, number, tag::any),
            bias({1, 1, biases, H}, memory::data_type::f32, tag::ldgo);
        auto fill = [&](const auto &is) {
            given[DNNL_ARG_SRC_LAYER] = taken({T, B, I}, tag::tnc, x, is.src_layer_desc());
            given[DNNL_ARG_WEIGHTS_LAYER] = taken({1, 1, I, gates, H}, tag::ldgoi, W, is.weights_layer_desc());
            given[DNNL_ARG_WEIGHTS_ITER] = taken({1, 1, H, gates, H}, tag::ldgoi, U, is.weights_iter_desc());
            given[DNNL_ARG_BIAS] = taken({1, 1, biases, H}, tag::ldgo, b, is.bias_desc());
            given[DNNL_ARG_DST_LAYER] = memory(is.dst_layer_desc(), cpu);
        };
        if (kind == 0) {
            lstm_forward::primitive_desc is(cpu, what, way, src, none, none, input, recurrent, bias, dst, none,
                                            none);
            fill(is), layer = lstm_forward(is);
        } else if (kind == 1) {
            lbr_gru_forward::primitive_desc is(cpu, what, way, src, none, input, recurrent, bias, dst, none);
            fill(is), layer = lbr_gru_forward(is);
        } else {
            vanilla_rnn_forward::primitive_desc is(cpu, what, algorithm::eltwise_tanh, way, src, none, input,
                                                   recurrent, bias, dst, none);
            fill(is), layer = vanilla_rnn_forward(is);
        }
    }
};

}  // namespace

extern "C" void *make_layer(int kind, long T, long B, long I, long H, int rounded, const float *x,
                            const float *W, const float *U, const float *b)
{
    try {
        return new Layer(kind, T, B, I, H, rounded != 0, x, W, U, b);
    } catch (const error &) {
        return nullptr;
    }
}

extern "C" void run_layer(void *layer)
{
    auto *one = static_cast<Layer *>(layer);
    one->layer.execute(one->queue, one->given);
    one->queue.wait();
}

extern "C" void read_layer(void *layer, long T, long B, long H, float *y)
{
    auto *one = static_cast<Layer *>(layer);
    memory whole({{T, B, H}, memory::data_type::f32, memory::format_tag::tnc}, one->cpu, y);
    reorder(one->given[DNNL_ARG_DST_LAYER], whole).execute(one->queue, one->given[DNNL_ARG_DST_LAYER], whole);
    one->queue.wait();
}
