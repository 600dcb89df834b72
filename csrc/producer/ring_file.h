/* The file of a ring: its geometry, and how it is made. */
#ifndef RINGBUF_RING_FILE_H
#define RINGBUF_RING_FILE_H

#include <sys/stat.h>

#include "ringbuf.h"

/* Geometry of the ring that `config` asks for, and what its header states. */
struct rb_shape {
    uint32_t header_bytes;
    uint64_t lane_stride_bytes;
    uint64_t file_bytes;
    uint64_t root_threshold; /* not rb_shape_of's: it depends on the ring before */
};

/* Fills `shape` with what `config` asks for; an error where that is no ring. */
int rb_shape_of(const rb_config *config, struct rb_shape *shape, rb_error *error);

/*
 * Makes a whole, locked, named ring in a directory, and maps it. The mapping keeps the locks.
 *
 * map: where it lies. found: its device and inode. path: its name, of RB_MAX_PATH_BYTES.
 */
int rb_make_ring(int dir_fd, const rb_config *config, const struct rb_shape *shape, uint8_t **map, struct stat *found,
                 char *path, rb_error *error);

#endif
