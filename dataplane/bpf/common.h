/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Layouts and maps shared by the programs; src/abi.rs mirrors the structures octet by octet. */
#ifndef TANDEM_COMMON_H
#define TANDEM_COMMON_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GROUPS_MAX 64
#define PORTS_MAX 256
#define SESSIONS_MAX 131072
#define NAT_NETWORKS_MAX 1024

/* session flags */
#define F_POLICE 0x01 /* token bucket on, rate_bps and burst_ns are set */
#define F_CLASS 0x02  /* an HTB class 1:index exists */
#define F_S_TAG 0x04  /* outer TPID towards the subscriber is 0x88a8 */
#define F_BLOCK 0x08  /* the subscriber is not allowed: nothing passes */

/* skb->mark of a packet from a subscriber: 01 slot:6 class:1 index:23. The two top bits tell our marks
 * from those of other software. */
#define MARK_SIGN 0x40000000u
#define MARK_SIGN_MASK 0xc0000000u
#define MARK_SLOT_SHIFT 24
#define MARK_CLASS 0x00800000u
#define MARK_INDEX_MASK 0x007fffffu

/* nftables (src/nft.rs) gives a translated packet from the core the mark of the session that opened its
 * flow, under this sign: an address may have got another session since. */
#define MARK_SIGN_FLOW 0x80000000u

/* HTB roots have handle 1: on access and core. */
#define CLASS_MAJOR 0x00010000u

#define META_MAGIC 0x7464656d

/* XDP leaves this in front of a packet it has accepted; tc ingress trusts nothing else. */
struct meta {
	__u32 magic;
	__u32 mark;
};

struct port {
	__u16 port;
	__u8 slot;
	__u8 pad;
};

struct group {
	__u8 vmac[ETH_ALEN];
	__u8 known;
	__u8 pad;
	__u32 id;
};

struct vmac_key {
	__u8 mac[ETH_ALEN];
	__u8 pad[2];
};

struct up_key {
	__u16 port;
	__u16 outer;
	__u16 inner;
	__u16 sid; /* host order, 0 is IPoE */
	__u8 mac[ETH_ALEN];
	__u16 pad;
	__be32 address; /* 0 for PPPoE, where the session id is unique */
};

struct up_value {
	__u64 session;
	__u64 rate_bps;
	__u64 burst_ns;
	__u32 index;
	__be32 address;
	__u8 slot;
	__u8 flags;
	__u8 pad[6];
};

struct down_value {
	__u64 session;
	__u64 rate_bps;
	__u64 burst_ns;
	__u32 index;
	__u16 port;
	__u16 outer;
	__u16 inner;
	__u16 sid;
	__u8 mac[ETH_ALEN];
	__u8 slot;
	__u8 flags;
	__u8 pad[4];
};

/* One direction of a session; a cache line, since the directions run on different CPUs. */
struct flow {
	__u64 packets;
	__u64 bytes;
	__u64 dropped;
	__u64 tat_ns; /* theoretical arrival time of the token bucket */
	__u64 pad[4];
};

struct flows {
	struct flow up;
	struct flow down;
};

enum drop_reason {
	DROP_NO_SESSION,
	DROP_SPOOFED_SOURCE,
	DROP_FENCE_SHUT,
	DROP_POLICED,
	DROP_MALFORMED,
	DROP_OTHER_MAC,
	DROP_NOT_IPV4,
	DROP_NO_GROUP,
	DROP_FOREIGN_FRAME,
	DROP_SEGMENT_OFFLOAD,
	DROP_NO_ROOM,
	DROP_STALE_FLOW,
	DROP_UNTRANSLATED,
	DROP_BANNED,
	DROP_DISALLOWED,
	DROP_REASONS,
};

/* The next map is written by the daemon only: counters of the former owner, by session index. */
struct counters {
	__u64 bytes_up, packets_up, bytes_down, packets_down, dropped_up, dropped_down;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SESSIONS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counters);
} counter_bases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SESSIONS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct up_key);
	__type(value, struct up_value);
} sessions_up SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SESSIONS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be32);
	__type(value, struct down_value);
} sessions_down SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SESSIONS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct flows);
} session_flows SEC(".maps");

/* Slot -> end of the quorum lease, in ns of CLOCK_BOOTTIME. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GROUPS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} fences SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GROUPS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct group);
} group_info SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GROUPS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct vmac_key);
	__type(value, __u32);
} vmacs SEC(".maps");

/* Networks of pools whose addresses must not be seen outside. */
struct nat_key {
	__u32 prefix_len;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, NAT_NETWORKS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct nat_key);
	__type(value, __u32);
} nat_networks SEC(".maps");

/* Interface index -> access port. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_REASONS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} drop_counts SEC(".maps");

static __always_inline void count_drop(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&drop_counts, &reason);

	if (n)
		(*n)++; /* per CPU, and neither XDP nor tc is re-entered on one */
}

static __always_inline bool fence_open(__u32 slot)
{
	__u64 *until = bpf_map_lookup_elem(&fences, &slot);

	return until && bpf_ktime_get_boot_ns() < *(volatile __u64 *)until;
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] &&
	       a[5] == b[5];
}

static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	__builtin_memcpy(to, from, ETH_ALEN);
}

static __always_inline struct group *group_at(__u32 slot)
{
	struct group *g = bpf_map_lookup_elem(&group_info, &slot);

	return g && g->known ? g : NULL;
}

/* Generic cell rate algorithm (ITU-T I.371): one word holds the bucket, so that a compare-and-swap
 * is all the locking. Returns whether the packet conforms. */
static __always_inline bool conforms(struct flow *f, __u64 octets, __u64 rate_bps, __u64 burst_ns)
{
	__u64 now = bpf_ktime_get_boot_ns();
	__u64 cost_ns;

	if (!rate_bps)
		return true;
	cost_ns = octets * 8 * 1000000000ull / rate_bps;
	/* A loser of the race tries again; after the last try it passes, which errs by one packet. */
	for (int i = 0; i < 4; i++) {
		__u64 old = *(volatile __u64 *)&f->tat_ns;
		__u64 from = old > now ? old : now;

		if (from - now > burst_ns)
			return false;
		if (__sync_val_compare_and_swap(&f->tat_ns, old, from + cost_ns) == old)
			return true;
	}
	return true;
}

static __always_inline void count(struct flow *f, __u64 octets)
{
	__sync_fetch_and_add(&f->packets, 1);
	__sync_fetch_and_add(&f->bytes, octets);
}

#endif
