/* Linux before 4.14, and gVisor: memory is neither wiped for a child nor populated on request. */
#include "refused_advice.h"

int main(void)
{
    live_without("old_kernel", true, true);
    return 0;
}
