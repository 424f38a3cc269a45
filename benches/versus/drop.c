// The plainest receiver: every frame is dropped by XDP, and the driver's own counters count it.
#include <linux/bpf.h>

__attribute__((section("xdp"), used)) int drop(struct xdp_md *context) { return XDP_DROP; }

char _license[] __attribute__((section("license"), used)) = "GPL";
