#include "producer/adopt.h"

#include <sys/mman.h>

#include "producer/patience.h"
#include "producer/stats.h"
#include "shared/atomics.h"
#include "shared/crc32.h"
#include "shared/error.h"
#include "shared/point.h"

/* All lanes begin at the ring's first position, at `map`. Nobody else holds one. */
static void bind_lanes(rb_producer *producer, uint64_t first_position, uint8_t *map)
{
    producer->first_position = first_position;
    producer->map = map;
    rb_store_relaxed(&producer->seen_published, producer->lane_count * first_position);
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        rb_held_lane *lane = &producer->lanes[i];
        uint8_t *at = map + producer->header_bytes + i * producer->lane_stride_bytes;
        lane->tail = first_position;
        lane->head = first_position;
        lane->slots = at + RB_LANE_BYTES;
        /* Pairs with counters_of(): who does not hold the lane counts there. */
        rb_store_lane_release(&lane->shared, (rb_lane *)(void *)at);
    }
}

/* 0, or 1 + T, by which a ring's roots are decided. */
static uint64_t threshold_of(const rb_config *config)
{
    return config->root_threshold != 0 ? config->root_threshold : config->root_always != 0;
}

/*
 * What child_flags say of the threshold that a root was decided by: 20 bits between RB_SPAN_FLAGS and
 * RB_PRESENT_ROOT_THRESHOLD, equal for equal thresholds alone but for chance (two samplers in 500,000). So they stay true
 * in a forked child, in another emitter's ring and in a ring of another sampler: there they match or they do not.
 */
static uint32_t mark_of(uint64_t threshold)
{
    return threshold == 0 ? 0 : (uint32_t)(threshold * UINT64_C(0x9E3779B97F4A7C15) >> 44 | 1) << 10;
}

/* What a ring's config says of sampling, which may change with each ring. */
static void take_sampler(rb_producer *producer, const rb_config *config)
{
    rb_store32_relaxed(&producer->emit_unsampled, config->emit_unsampled);
    rb_store32_relaxed(&producer->root_always, config->root_always);
    rb_store_relaxed(&producer->root_bound, config->root_bound);
    rb_store_relaxed(&producer->root_threshold, config->root_threshold);
    rb_store32_relaxed(&producer->present_alone, config->present_bits & (uint32_t)RB_PRESENT_ALONE);
    rb_store32_relaxed(&producer->sampler_mark, mark_of(threshold_of(config)));
    rb_store32_relaxed(&producer->present_root,
                       threshold_of(config) != 0 ? config->present_bits & (uint32_t)RB_PRESENT_ROOT_THRESHOLD : 0);
}

uint64_t rb_stated_threshold(const rb_config *config, const rb_producer *before)
{
    if (before != NULL &&
        (before->root_threshold != config->root_threshold || before->root_always != config->root_always))
        return 0;
    return threshold_of(config);
}

static void give_lanes_back(rb_producer *producer, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rb_give_back(&producer->lanes[i].busy);
}

/* All lanes, so that no emit is under way; on failure those taken are given back. */
static int take_all_lanes(rb_producer *producer)
{
    uint64_t end = rb_end_of_patience();
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        if (rb_take_until(&producer->lanes[i].busy, end) != RB_OK) {
            give_lanes_back(producer, i);
            return RB_BUSY;
        }
    }
    return RB_OK;
}

/*
 * Where the new ring cannot be moved over the old one: the kernel may have unmapped that already. The lanes go to where
 * the new one is. A thread that found no lane and is about to count may still do so at the old address, where nothing
 * is lost but that count: there shall be memory, which is never given back.
 */
static uint8_t *leave_behind(uint8_t *old, uint64_t bytes, uint8_t *map)
{
    mmap(old, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return map;
}

/*
 * Move the new ring over the old one's address: pointers that other threads hold stay valid, and a stray count lands in
 * the new ring. The old ring's last mapping goes, and with it its lock: the drain finds it dead and drains it.
 */
int rb_replace_ring(rb_producer *producer, const rb_config *config, uint8_t *map, rb_error *error)
{
    uint64_t bytes = producer->map_bytes;
    if (take_all_lanes(producer) != RB_OK)
        return rb_fail(error, RB_BUSY, 0, "a lane stays held");
    RB_POINT(replace_begin);
    /* Threads that find no lane count meanwhile: a second mapping of the old ring shows the last of it. */
    uint8_t *old = mremap(producer->map, 0, bytes, MREMAP_MAYMOVE);
    RB_POINT(replace_shown_twice);
    if (old == MAP_FAILED)
        rb_add_lane_counts(producer, producer->map, &producer->retired);
    uint8_t *moved = mremap(map, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, producer->map);
    if (moved == MAP_FAILED)
        moved = leave_behind(producer->map, bytes, map);
    RB_POINT(replace_moved);
    if (old != MAP_FAILED) {
        rb_add_lane_counts(producer, old, &producer->retired);
        munmap(old, bytes);
    }
    RB_POINT(replace_unlocked);
    take_sampler(producer, config);
    bind_lanes(producer, config->first_position, moved);
    give_lanes_back(producer, producer->lane_count);
    RB_POINT(replace_done);
    return RB_OK;
}

void rb_adopt_ring(rb_producer *producer, const rb_config *config, const struct rb_shape *shape, uint8_t *map)
{
    producer->lane_count = config->lane_count;
    producer->slot_bytes = config->slot_bytes;
    producer->capacity_slots = config->capacity_slots;
    producer->quarter_shift = (uint32_t)__builtin_ctz(config->capacity_slots) - 2;
    producer->span_name_count = config->span_name_count;
    producer->layout_crc32 = rb_crc32(config->layout_json, config->layout_bytes);
    producer->header_bytes = shape->header_bytes;
    producer->lane_stride_bytes = shape->lane_stride_bytes;
    producer->map_bytes = shape->file_bytes;
    take_sampler(producer, config);
    bind_lanes(producer, config->first_position, map);
    RB_POINT(create_bound);
    rb_set_state(producer, RB_STATE_OPEN);
}

#define NOT_AS_BEFORE " is another than that of the ring that this one replaces"

/*
 * It is moved over the old one, and threads are writing records of the old layout, whose names and attributes go by
 * number.
 */
const char *rb_what_changed(const rb_producer *producer, const rb_config *config, const struct rb_shape *shape)
{
    if (producer->lane_count != config->lane_count)
        return "lane_count" NOT_AS_BEFORE;
    if (producer->capacity_slots != config->capacity_slots)
        return "capacity_slots" NOT_AS_BEFORE;
    if (producer->slot_bytes != config->slot_bytes)
        return "slot_bytes" NOT_AS_BEFORE;
    if (producer->span_name_count != config->span_name_count)
        return "span_name_count" NOT_AS_BEFORE;
    if (producer->layout_crc32 != rb_crc32(config->layout_json, config->layout_bytes))
        return "layout_json" NOT_AS_BEFORE;
    if (producer->map_bytes != shape->file_bytes)
        return "the size of layout_json and resource_json" NOT_AS_BEFORE;
    return NULL;
}
