/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Policy: bans, and the list of sources that are nobody's. */
#ifndef TANDEM_POLICY_H
#define TANDEM_POLICY_H

#include "common.h"

#define BANS_MAX 16384
#define UNKNOWN_MAX 1024
/* Unknown sources noted per CPU and second: what a flood of random ones may cost. */
#define UNKNOWN_PER_S 256
#define SECOND_NS 1000000000ull

/* scopes of a ban */
#define BAN_ALL 0x01
#define BAN_ICMP 0x02

struct ban_key {
	__u32 prefix_len;
	__be32 address;
};

/* A more specific network also bears the scopes of those around it: only the longest match is found. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, BANS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct ban_key);
	__type(value, __u32);
} bans SEC(".maps");

/* Sources of IPoE frames that belong to no session, until the daemon takes them: each is noted once in
 * that time, and the oldest makes room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UNKNOWN_MAX);
	__type(key, struct up_key);
	__type(value, __u64);
} unknown_sources SEC(".maps");

struct budget {
	__u64 since_ns;
	__u64 spent;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} unknown_budget SEC(".maps");

static __always_inline bool is_banned(__be32 address, __u8 protocol)
{
	struct ban_key key = { .prefix_len = 32, .address = address };
	__u32 *scopes = bpf_map_lookup_elem(&bans, &key);

	return scopes && ((*scopes & BAN_ALL) ||
			  ((*scopes & BAN_ICMP) && protocol == IPPROTO_ICMP));
}

static __always_inline bool banned(__be32 source, __be32 destination, __u8 protocol)
{
	return is_banned(source, protocol) || is_banned(destination, protocol);
}

/* Whether a frame whose IPv4 header starts after a plain Ethernet header is banned. */
static __always_inline bool banned_skb(struct __sk_buff *skb, struct ethhdr *eth)
{
	struct iphdr ip;

	if (eth->h_proto != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, sizeof(*eth), &ip, sizeof(ip)))
		return false;
	return banned(ip.saddr, ip.daddr, ip.protocol);
}

/* Notes the source of an IPoE frame for the daemon. */
static __always_inline void note_unknown(struct up_key *key)
{
	struct budget *budget;
	__u32 zero = 0;
	__u64 now;

	if (bpf_map_lookup_elem(&unknown_sources, key))
		return;
	budget = bpf_map_lookup_elem(&unknown_budget, &zero);
	if (!budget)
		return;
	now = bpf_ktime_get_boot_ns();
	if (now - budget->since_ns >= SECOND_NS) {
		budget->since_ns = now;
		budget->spent = 0;
	}
	if (budget->spent >= UNKNOWN_PER_S)
		return;
	budget->spent++;
	bpf_map_update_elem(&unknown_sources, key, &now, BPF_NOEXIST);
}

#endif
