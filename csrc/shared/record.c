#include "shared/record.h"

int rb_record_check(const void *record, uint32_t span_name_count)
{
    if (rb_is_core_sound(record, span_name_count))
        return RB_OK;
    return rb_has_ids(record) ? RB_E_RECORD : RB_E_ZERO_ID;
}
