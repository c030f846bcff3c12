// A pass through the network for inputs of one size: which layer reads what from where and writes it to where.
//
// Everything is laid out once, when the plan is made: a pass allocates nothing. Two maps take turns as the input and the
// output of a block; a third holds what is between the depthwise convolution and the projection. The expanded map is
// never whole: a few of its lines for a few panels at a time lie in a scratch that fits the first cache.
#include <ATen/Parallel.h>

#include "network.h"

namespace mnv3 {

constexpr size_t FIRST_CACHE = 40 << 10;  // bytes of it that a scratch may take: a little over its size still pays

// Work items for PyTorch's own threads, so that torch.set_num_threads counts here as well.
template <class F>
void parallel(int count, F&& body) {
    at::parallel_for(0, count, 1, [&](int64_t from, int64_t to) {
        for (int i = int(from); i < to; i++) body(i, at::get_thread_num());
    });
}

struct Size {
    int height, width;
    int pixels() const { return height * width; }
};

// How a block's expanded lines lie in the scratch.
struct Lines {
    int top, left;     // zeros before the map
    int pitch;         // pixels of a stored line with the zeros at both ends
    int kept;          // stored lines: as many as the kernel spans, or all of the map
    int at_once;       // lines made together
    std::vector<int> where;

    Lines(const Block& b, Size in, Size out) {
        const Depthwise& d = b.depthwise;
        const int reach = (d.kernel - 1) * d.dilation;
        top = zeros_before(b.same, in.height, d.kernel, d.stride, d.dilation);
        left = zeros_before(b.same, in.width, d.kernel, d.stride, d.dilation);
        pitch = std::max(left + in.width, (out.width - 1) * d.stride + reach + 1);
        const int widest = b.expansion ? *std::max_element(b.expansion->groups.begin(), b.expansion->groups.end()) : 1;
        const bool whole = reach + 1 >= in.height || size_t(in.height) * pitch * widest * L * sizeof(float) <= FIRST_CACHE;
        kept = whole ? in.height : reach + 1;
        at_once = whole ? in.height : 1;
        for (int y = 0; y < at_once; y++)
            for (int x = 0; x < in.width; x++) where.push_back((y * pitch + left + x) * L);
    }
    ptrdiff_t panel() const { return ptrdiff_t(kept) * pitch * L; }
    void clear_ends(float* line, int width) const {
        std::fill(line, line + left * L, 0.f);
        std::fill(line + (left + width) * L, line + pitch * L, 0.f);
    }
};

struct Scratch {
    float* lines;
    std::vector<ptrdiff_t> offsets;
    std::vector<const float*> image_lines;
    std::vector<float> image_edge;
};

class Plan {
  public:
    Plan(const Network& network, int images, Size image);
    void run(const float* images, float* logits);

  private:
    void stem(const float* image, Value* out);
    void block(size_t number, const Value* in, Value* out);
    void expand_and_convolve(const Block& b, const Lines& lines, Size in, Size out, const Value* from);
    void weigh(const Block& b, Size size);
    void pool(const Value* in);
    template <class Out>
    void multiply_all(const Pointwise& p, int pixels, const Value* in, Out* out, Activation activation, const Out* shortcut = nullptr);

    // A map of so many panels: floats from a panel to the next, and all of them.
    ptrdiff_t panel(Size size) const { return ptrdiff_t(images_) * size.pixels() * L; }
    size_t floats(int channels, Size size) const { return size_t(panels(channels)) * panel(size); }

    const Network& network_;
    int images_;
    std::vector<Size> sizes_;  // of the image, and of the map after the stem and each block
    std::vector<Lines> lines_;
    std::vector<int> in_order_;
    size_t lines_size_ = 0;
    Arena arena_;
    Value *first_, *second_, *between_, *means_, *squeezed_;
    float *sums_, *results_;
    std::vector<Scratch> scratch_;
};

Size strided(Size size, int stride) { return {(size.height + stride - 1) / stride, (size.width + stride - 1) / stride}; }

Plan::Plan(const Network& network, int images, Size image) : network_(network), images_(images), sizes_{image, strided(image, 2)} {
    // The maps of the stem are the largest; what is counted in them is counted in 32 bits.
    if (double(images) * image.height * image.width * std::max(L, network.stem.in) > double(INT32_MAX))
        throw std::invalid_argument("images of " + std::to_string(images) + " x " + std::to_string(image.height) + " x " +
                                    std::to_string(image.width) + " pixels are too large for the engine");
    size_t map = floats(network.stem.out, sizes_[1]);
    size_t wide = 0;
    int widest = std::max({network.last.out, network.hidden.out, network.logits.out});
    for (const Block& b : network.blocks) {
        const Size in = sizes_.back(), out = strided(in, b.depthwise.stride);
        const Lines& lines = lines_.emplace_back(b, in, out);
        lines_size_ = std::max(lines_size_, size_t(lines.panel()) * WIDEST);
        map = std::max(map, floats(b.projection.out, out));
        wide = std::max(wide, floats(b.depthwise.channels, out));
        widest = std::max(widest, b.depthwise.channels);
        sizes_.push_back(out);
    }
    lines_size_ = std::max(lines_size_, size_t(sizes_.back().pixels()) * WIDEST * L);
    const int most = std::max(images * sizes_[1].pixels(), images);
    for (int i = 0; i < most; i++) in_order_.push_back(i * L);
    const size_t vector = size_t(panels(widest)) * images * L;
    first_ = arena_.get<Value>(map), second_ = arena_.get<Value>(map), between_ = arena_.get<Value>(wide);
    means_ = arena_.get<Value>(vector), squeezed_ = arena_.get<Value>(vector);
    sums_ = arena_.get<float>(vector), results_ = arena_.get<float>(vector);
}

void Plan::run(const float* images, float* logits) {
    while (int(scratch_.size()) < at::get_num_threads()) scratch_.push_back({arena_.get<float>(lines_size_), {}, {}, {}});
    Value *in = first_, *out = second_;
    stem(images, in);
    for (size_t number = 0; number < network_.blocks.size(); number++, std::swap(in, out)) block(number, in, out);
    pool(in);
    multiply_all(network_.hidden, images_, means_, squeezed_, network_.hidden_activation);
    multiply_all(network_.logits, images_, squeezed_, results_, NONE);
    for (int i = 0; i < images_; i++)
        for (int c = 0; c < network_.logits.out; c++)
            logits[size_t(i) * network_.logits.out + c] = results_[(size_t(c / L) * images_ + i) * L + c % L];
}

void Plan::stem(const float* image, Value* out) {
    const Stem& s = network_.stem;
    const Size in = sizes_[0], to = sizes_[1];
    const int top = zeros_before(s.same, in.height, 3, 2, 1), left = zeros_before(s.same, in.width, 3, 2, 1);
    parallel(images_ * to.height, [&](int task, int thread) {
        const int i = task / to.height, y = task % to.height;
        stem_row(s, image + ptrdiff_t(i) * s.in * in.pixels(), in.height, in.width, 2 * y - top, -left,
                 out + (ptrdiff_t(i) * to.pixels() + ptrdiff_t(y) * to.width) * L, panel(to), to.width, scratch_[thread].image_lines,
                 scratch_[thread].image_edge);
    });
}

template <class Out>
void Plan::multiply_all(const Pointwise& p, int pixels, const Value* in, Out* out, Activation activation, const Out* shortcut) {
    const ptrdiff_t panel = ptrdiff_t(pixels) * L;
    const int groups = int(p.groups.size()), parts = std::min(at::get_num_threads(), (pixels + tallest(1) - 1) / tallest(1));
    parallel(groups * parts, [&](int task, int) {
        const int group = task / parts, part = task % parts;
        const int from = int(int64_t(pixels) * part / parts), to = int(int64_t(pixels) * (part + 1) / parts);
        const ptrdiff_t first = p.first(group);
        multiply<Out>({in + from * L, panel, p.weight + p.packed(first), p.bias + first * L, p.in, out + first * panel, panel,
                  in_order_.data() + from, shortcut ? shortcut + first * panel : nullptr, activation},
                 to - from, p.groups[group]);
    });
}

void Plan::block(size_t number, const Value* in, Value* out) {
    const Block& b = network_.blocks[number];
    const Size before = sizes_[number + 1], after = sizes_[number + 2];
    expand_and_convolve(b, lines_[number], before, after, in);
    if (b.gate) weigh(b, after);
    multiply_all<Value>(b.projection, images_ * after.pixels(), between_, out, NONE, b.shortcut ? in : nullptr);
}

// One group of panels after another: make lines, and convolve as soon as the lines under the kernel are there.
void Plan::expand_and_convolve(const Block& b, const Lines& lines, Size in, Size out, const Value* from) {
    const Depthwise& d = b.depthwise;
    const int groups = b.expansion ? int(b.expansion->groups.size()) : panels(d.channels);
    parallel(groups * images_, [&](int task, int thread) {
        const int group = task / images_, image = task % images_;
        const int count = b.expansion ? b.expansion->groups[group] : 1, first = b.expansion ? b.expansion->first(group) : group;
        float* kept = scratch_[thread].lines;
        if (b.gate)
            for (int n = 0; n < count; n++) store(sums_ + (ptrdiff_t(first + n) * images_ + image) * L, Vector{});
        for (int line = 0; line < count * lines.kept; line++) lines.clear_ends(kept + ptrdiff_t(line) * lines.pitch * L, in.width);
        const Value* map = from + ptrdiff_t(image) * in.pixels() * L;
        auto make = [&](int y) {
            float* line = kept + ptrdiff_t(y % lines.kept) * lines.pitch * L;
            const Value* pixels = map + ptrdiff_t(y) * in.width * L;
            if (!b.expansion) {
                for (int row = 0; row < lines.at_once; row++) {
                    const Value* source = pixels + first * panel(in) + ptrdiff_t(row) * in.width * L;
                    float* to = line + (ptrdiff_t(row) * lines.pitch + lines.left) * L;
                    for (int x = 0; x < in.width; x++) store(to + x * L, load(source + x * L));
                }
                return;
            }
            const Pointwise& p = *b.expansion;
            multiply<float>({pixels, panel(in), p.weight + p.packed(first), p.bias + first * L, p.in, line,
                      lines.panel(), lines.where.data(), nullptr, b.activation},
                     lines.at_once * in.width, count);
        };
        std::vector<ptrdiff_t>& offsets = scratch_[thread].offsets;
        offsets.resize(d.kernel);
        for (int y = 0, made = 0; y < out.height; y++) {
            const int under = y * d.stride - lines.top;  // the map's line under the kernel's first
            const int needed = std::min(in.height, under + (d.kernel - 1) * d.dilation + 1);
            for (; made < needed; made += lines.at_once) make(made);
            int begin = 0, end = d.kernel;
            while (begin < end && under + begin * d.dilation < 0) begin++;
            while (end > begin && under + (end - 1) * d.dilation >= in.height) end--;
            for (int k = begin; k < end; k++) offsets[k] = ptrdiff_t((under + k * d.dilation) % lines.kept) * lines.pitch * L;
            for (int n = 0; n < count; n++) {
                const ptrdiff_t at = first + n;
                convolve({kept + n * lines.panel(), offsets.data(), begin, end, d.weight + at * d.kernel * d.kernel * L,
                          d.bias + at * L, d.kernel, d.stride, d.dilation,
                          between_ + at * panel(out) + (ptrdiff_t(image) * out.pixels() + ptrdiff_t(y) * out.width) * L,
                          b.gate ? sums_ + (at * images_ + image) * L : nullptr, b.activation},
                         out.width);
            }
        }
    });
}

// Squeeze-and-excitation: the depthwise layer has added up each channel.
void Plan::weigh(const Block& b, Size size) {
    const int count = panels(b.depthwise.channels) * images_;
    for (int i = 0; i < count; i++) store(means_ + i * L, load(sums_ + i * L) * (1.f / size.pixels()));
    multiply_all(b.gate->squeeze, images_, means_, squeezed_, RELU);
    multiply_all(b.gate->excite, images_, squeezed_, results_, HARD_SIGMOID);
    parallel(count, [&](int i, int) {
        const Vector gate = load(results_ + ptrdiff_t(i) * L);
        Value* map = between_ + ptrdiff_t(i) * size.pixels() * L;
        for (int m = 0; m < size.pixels(); m++) store(map + m * L, load(map + m * L) * gate);
    });
}

// The last convolution and the mean of each channel; what it gives is used at once and never stored as a map.
void Plan::pool(const Value* in) {
    const Pointwise& p = network_.last;
    const int pixels = sizes_.back().pixels();
    const ptrdiff_t panel = this->panel(sizes_.back());
    parallel(int(p.groups.size()) * images_, [&](int task, int thread) {
        const int group = task / images_, image = task % images_, first = p.first(group);
        float* map = scratch_[thread].lines;
        multiply<float>({in + ptrdiff_t(image) * pixels * L, panel, p.weight + p.packed(first), p.bias + first * L,
                  p.in, map, ptrdiff_t(pixels) * L, in_order_.data(), nullptr, network_.last_activation},
                 pixels, p.groups[group]);
        for (int n = 0; n < p.groups[group]; n++) {
            Vector sum[4] = {};
            for (int m = 0; m < pixels; m++) sum[m % 4] += load(map + (ptrdiff_t(n) * pixels + m) * L);
            const Vector total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            store(means_ + (ptrdiff_t(first + n) * images_ + image) * L, total * (1.f / pixels));
        }
    });
}

}  // namespace mnv3

// What Python calls. Errors come back as text; nothing ends the process.
namespace {

template <class F>
int guarded(char* error, int length, F&& body) {
    try {
        body();
        return 0;
    } catch (const std::exception& problem) {
        std::strncpy(error, problem.what(), length - 1);
        error[length - 1] = 0;
        return 1;
    }
}

}  // namespace

extern "C" {

EXPORT int mnv3_lanes() { return mnv3::L; }

EXPORT int mnv3_network(const int32_t* numbers, int64_t count, const float* weights, int64_t floats, void** network, char* error, int length) {
    return guarded(error, length, [&] {
        *network = new mnv3::Network(mnv3::Network::read({numbers, size_t(count), "numbers"}, {weights, size_t(floats), "weights"}));
    });
}

EXPORT int mnv3_plan(const void* network, int images, int height, int width, void** plan, char* error, int length) {
    return guarded(error, length, [&] {
        *plan = new mnv3::Plan(*static_cast<const mnv3::Network*>(network), images, {height, width});
    });
}

EXPORT int mnv3_run(void* plan, const float* images, float* logits, char* error, int length) {
    return guarded(error, length, [&] { static_cast<mnv3::Plan*>(plan)->run(images, logits); });
}

EXPORT void mnv3_free_plan(void* plan) { delete static_cast<mnv3::Plan*>(plan); }
EXPORT void mnv3_free_network(void* network) { delete static_cast<mnv3::Network*>(network); }
}
