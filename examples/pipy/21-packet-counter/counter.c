/* Counts packets by where they come from, and drops those of blocked protocols. XDP: before the network stack sees them. */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#define SEC(name) __attribute__((section(name), used))

union address {
  __u8 bytes[4];
  __u32 whole;
};

struct source {
  union address ip;
};

struct counted {
  __u64 packets;
  __u64 bytes;
};

struct {
  int (*type)[BPF_MAP_TYPE_LRU_HASH];
  int (*max_entries)[1024];
  struct source *key;
  struct counted *value;
} sources SEC(".maps");

/* Protocols of IP by their number, such as 1 for ICMP; of each, how many were dropped. */
struct {
  int (*type)[BPF_MAP_TYPE_HASH];
  int (*max_entries)[256];
  __u8 *key;
  __u64 *value;
} blocked SEC(".maps");

#ifdef __clang__
static void *(*lookup)(void *, const void *) = (void *)BPF_FUNC_map_lookup_elem;
static long (*update)(void *, const void *, const void *, __u64) = (void *)BPF_FUNC_map_update_elem;
#else
#define HELPER(number) __attribute__((kernel_helper(number)))
extern void *lookup(void *, const void *) HELPER(BPF_FUNC_map_lookup_elem);
extern long update(void *, const void *, const void *, __u64) HELPER(BPF_FUNC_map_update_elem);
#endif

SEC("xdp") int count(struct xdp_md *packet) {
  void *begin = (void *)(long)packet->data, *end = (void *)(long)packet->data_end;
  struct ethhdr *frame = begin;
  struct iphdr *head = (void *)(frame + 1);
  if ((void *)(head + 1) > end || frame->h_proto != __builtin_bswap16(ETH_P_IP))
    return XDP_PASS;

  struct source source = {.ip.whole = head->saddr};
  struct counted *known = lookup(&sources, &source);
  if (known) {
    __sync_fetch_and_add(&known->packets, 1);
    __sync_fetch_and_add(&known->bytes, end - begin);
  } else {
    struct counted first = {1, end - begin};
    update(&sources, &source, &first, BPF_ANY);
  }

  __u8 protocol = head->protocol;
  __u64 *dropped = lookup(&blocked, &protocol);
  if (!dropped)
    return XDP_PASS;
  __sync_fetch_and_add(dropped, 1);
  return XDP_DROP;
}

char license_of_this[] SEC("license") = "GPL";
