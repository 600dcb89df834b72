/* Runs a fuzz target over the files, and all files of the folders, that are its arguments: no libFuzzer, any compiler. */
#include <assert.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned replayed;

static void replay(const char *path)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &status) != 0) {
        perror(path);
        exit(2);
    }
    size_t bytes = (size_t)status.st_size;
    uint8_t *data = malloc(bytes ? bytes : 1); /* of just this size, so that a read beyond it is seen */
    assert(data != NULL && fread(data, 1, bytes, file) == bytes);
    fclose(file);
    fprintf(stderr, "%s\n", path); /* the last one is what the sanitizer's report is about */
    LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    replayed++;
}

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int count = scandir(argv[i], &entries, NULL, alphasort);
        if (count < 0) {
            replay(argv[i]);
            continue;
        }
        for (int at = 0; at < count; free(entries[at++])) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entries[at]->d_name);
            if (entries[at]->d_name[0] != '.')
                replay(path);
        }
        free(entries);
    }
    printf("%u inputs replayed\n", replayed);
    return replayed == 0;
}
