/* Linux before 5.14: memory is wiped for a child, and cannot be populated on request. */
#include "refused_advice.h"

int main(void)
{
    live_without("no_populating", false, true);
    return 0;
}
