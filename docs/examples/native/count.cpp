// Counts the words of files, each file in a thread of its own; a span for the whole, and a child for each file.
// Usage: count FILE...
#include "tracer.h"

#include <atomic>
#include <cctype>
#include <fstream>
#include <iostream>
#include <thread>
#include <vector>

namespace {

RB_SITE(all_site, FILES_NAME_COUNT_ALL, RB_KIND_INTERNAL, 0);
RB_SITE(file_site, FILES_NAME_COUNT, RB_KIND_INTERNAL, 0);

// A span for as long as the object lives; an exception that passes makes its status ERROR.
class Span {
  public:
    Span(tracer &to, const rb_record &site, const Span *parent = nullptr)
        : tracer_(to), exceptions_(std::uncaught_exceptions())
    {
        RB_BEGIN(tracer_.producer, site, &record_, &span_, parent == nullptr ? nullptr : &parent->span_);
    }
    Span(const Span &) = delete;
    Span &operator=(const Span &) = delete;
    ~Span()
    {
        if (std::uncaught_exceptions() > exceptions_)
            record_.core.status = RB_STATUS_ERROR;
        tracer_end(&tracer_, &span_, &record_);
    }
    files_record &operator*() { return record_; }

  private:
    tracer &tracer_;
    int exceptions_;
    files_record record_;
    rb_span span_;
};

std::size_t count_words(tracer &t, const Span &all, const char *path)
{
    Span span(t, file_site, &all);
    tracer_path(&t, &*span, path);
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        files_set_outcome(&*span, tracer_outcome(errno));
        (*span).core.status = RB_STATUS_ERROR;
        return 0;
    }
    std::size_t words = 0;
    std::uint64_t bytes = 0;
    bool in_word = false;
    for (char c; file.get(c); bytes++) {
        const bool is_space = std::isspace(static_cast<unsigned char>(c)) != 0;
        words += !is_space && !in_word;
        in_word = !is_space;
    }
    files_set_bytes(&*span, bytes);
    files_set_outcome(&*span, FILES_OUTCOME_OK);
    return words;
}

} // namespace

int main(int argc, char **argv)
{
    tracer t;
    if (tracer_open(&t, "count", R"({"service.name":"count"})") != 0)
        return 1;
    std::atomic<std::size_t> words{0};
    {
        Span all(t, all_site);
        std::vector<std::thread> threads;
        for (int i = 1; i < argc; i++)
            threads.emplace_back([&, path = argv[i]] { words += count_words(t, all, path); });
        for (auto &thread : threads)
            thread.join();
    }
    std::cout << words << '\n';
    tracer_close(&t);
}
