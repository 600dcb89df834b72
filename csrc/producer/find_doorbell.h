#ifndef RINGBUF_FIND_DOORBELL_H
#define RINGBUF_FIND_DOORBELL_H

#include <stdint.h>

/* Maps the doorbell of a ring directory; NULL without one. The caller is making (making.h), as no child shall have it. */
uint32_t *rb_map_doorbell(int dir_fd);

#endif
