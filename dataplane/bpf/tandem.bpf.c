// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The data plane of a node, five programs:
 *
 *   subscriber -> [access_xdp] -> (AF_PACKET taps) -> [access_ingress] -> IP stack -> [core_egress]
 *   core router -> [core_ingress] -> IP stack -> [access_egress] -> subscriber
 *
 * Each asks the fence of the group before it lets anything of that group pass, and drops what is banned.
 */
#include "common.h"
#include "policy.h"

#define ETHERTYPE_PPPOE_DISCOVERY 0x8863
#define ETHERTYPE_PPPOE_SESSION 0x8864
#define PPP_IPV4 0x0021
#define PPP_CONTROL_MIN 0x8000 /* RFC 1661 section 2 */
#define PPPOE_VERSION_TYPE 0x11
#define DHCP_SERVER_PORT 67
#define IP_FRAGMENT_OFFSET 0x1fff

#define MACS_LEN 12
#define TAG_LEN 4
#define TYPE_LEN 2
#define PPPOE_LEN 8 /* PPPoE header and PPP protocol, RFC 2516 section 4 */

struct tag {
	__be16 tci;
	__be16 type;
};

struct pppoe {
	__u8 version_type;
	__u8 code;
	__be16 sid;
	__be16 length;
	__be16 protocol;
};

/* Where the layers of a frame begin, as octets from its start. */
struct parsed {
	__u16 outer;
	__u16 inner;
	__u16 type; /* EtherType below the tags, host order */
	__u16 offset;
};

static __always_inline bool is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* Reads up to two tags. A priority tag (VID 0) counts as none. */
static __always_inline int parse_tags(void *data, void *end, struct parsed *p)
{
	struct ethhdr *eth = data;
	struct tag *tag = (void *)(eth + 1);
	__be16 type;

	if ((void *)(eth + 1) > end)
		return -1;
	type = eth->h_proto;
	p->outer = 0;
	p->inner = 0;
	p->offset = sizeof(*eth);
	if (is_tag(type)) {
		if ((void *)(tag + 1) > end)
			return -1;
		p->outer = bpf_ntohs(tag->tci) & 0xfff;
		type = tag->type;
		p->offset += TAG_LEN;
		tag++;
		if (is_tag(type)) {
			__u16 vid;

			if ((void *)(tag + 1) > end)
				return -1;
			vid = bpf_ntohs(tag->tci) & 0xfff;
			if (p->outer)
				p->inner = vid;
			else
				p->outer = vid;
			type = tag->type;
			p->offset += TAG_LEN;
		}
	}
	p->type = bpf_ntohs(type);
	return 0;
}

static __always_inline int drop_xdp(__u32 reason)
{
	count_drop(reason);
	return XDP_DROP;
}

static __always_inline int drop_tc(__u32 reason)
{
	count_drop(reason);
	return TC_ACT_SHOT;
}

/* Frames for the daemon pass to its packet socket, unless the group is not ours to answer for. */
static __always_inline int control(__u32 slot)
{
	return fence_open(slot) ? XDP_PASS : drop_xdp(DROP_FENCE_SHUT);
}

static __always_inline bool is_dhcp_request(struct iphdr *ip, void *end)
{
	struct udphdr *udp;

	if (ip->protocol != IPPROTO_UDP || (ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET)))
		return false;
	udp = (void *)ip + ip->ihl * 4;
	return (void *)(udp + 1) <= end && udp->dest == bpf_htons(DHCP_SERVER_PORT);
}

/* Why no session was found: an address that is somebody else's is spoofing. */
static __always_inline __u32 why_unknown(__be32 source)
{
	return bpf_map_lookup_elem(&sessions_down, &source) ? DROP_SPOOFED_SOURCE : DROP_NO_SESSION;
}

/* Checks, counts and unwraps a packet of a subscriber, which starts at `strip` + an Ethernet header. */
static __always_inline int accept(struct xdp_md *ctx, struct up_key *key, __u32 slot, __be32 source,
				  __u32 octets, __u32 strip)
{
	struct up_value *session = bpf_map_lookup_elem(&sessions_up, key);
	__u8 macs[MACS_LEN];
	struct ethhdr *eth;
	struct flows *flows;
	struct meta *meta;
	__u32 mark;

	if (!session) {
		if (!key->sid && fence_open(slot))
			note_unknown(key);
		return drop_xdp(why_unknown(source));
	}
	if (session->address != source)
		return drop_xdp(DROP_SPOOFED_SOURCE);
	if (!fence_open(session->slot))
		return drop_xdp(DROP_FENCE_SHUT);
	if (session->flags & F_BLOCK)
		return drop_xdp(DROP_DISALLOWED);
	flows = bpf_map_lookup_elem(&session_flows, &session->index);
	if (!flows)
		return drop_xdp(DROP_NO_SESSION);
	if ((session->flags & F_POLICE) &&
	    !conforms(&flows->up, octets, session->rate_bps, session->burst_ns)) {
		__sync_fetch_and_add(&flows->up.dropped, 1);
		return drop_xdp(DROP_POLICED);
	}
	count(&flows->up, octets);
	mark = MARK_SIGN | ((__u32)session->slot << MARK_SLOT_SHIFT) |
	       (session->index & MARK_INDEX_MASK);
	if (session->flags & F_CLASS)
		mark |= MARK_CLASS;

	if (strip) {
		eth = (void *)(long)ctx->data;
		if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
			return drop_xdp(DROP_MALFORMED);
		__builtin_memcpy(macs, eth, MACS_LEN);
		if (bpf_xdp_adjust_head(ctx, strip))
			return drop_xdp(DROP_NO_ROOM);
		eth = (void *)(long)ctx->data;
		if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
			return drop_xdp(DROP_MALFORMED);
		__builtin_memcpy(eth, macs, MACS_LEN);
		eth->h_proto = bpf_htons(ETH_P_IP);
	}
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return drop_xdp(DROP_NO_ROOM);
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return drop_xdp(DROP_NO_ROOM);
	meta->magic = META_MAGIC;
	meta->mark = mark;
	return XDP_PASS;
}

SEC("xdp")
int access_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 ifindex = ctx->ingress_ifindex;
	struct ethhdr *eth = data;
	struct up_key key = {};
	struct parsed p;
	struct group *group;
	struct pppoe *pppoe;
	struct port *port;
	struct iphdr *ip;
	__u32 strip, octets;

	port = bpf_map_lookup_elem(&ports, &ifindex);
	if (!port)
		return drop_xdp(DROP_NO_GROUP);
	group = group_at(port->slot);
	if (!group)
		return drop_xdp(DROP_NO_GROUP);
	if (parse_tags(data, end, &p))
		return drop_xdp(DROP_MALFORMED);
	if (p.type == ETHERTYPE_PPPOE_DISCOVERY || p.type == ETH_P_ARP)
		return control(port->slot);

	strip = p.offset - sizeof(*eth);
	if (p.type == ETHERTYPE_PPPOE_SESSION) {
		__u16 payload;

		pppoe = data + p.offset;
		if ((void *)(pppoe + 1) > end || pppoe->version_type != PPPOE_VERSION_TYPE ||
		    pppoe->code != 0)
			return drop_xdp(DROP_MALFORMED);
		if (bpf_ntohs(pppoe->protocol) >= PPP_CONTROL_MIN)
			return control(port->slot);
		if (pppoe->protocol != bpf_htons(PPP_IPV4))
			return drop_xdp(DROP_NOT_IPV4);
		payload = bpf_ntohs(pppoe->length);
		ip = (void *)(pppoe + 1);
		if ((void *)(ip + 1) > end || payload < TYPE_LEN + sizeof(*ip) ||
		    bpf_ntohs(ip->tot_len) + TYPE_LEN > payload)
			return drop_xdp(DROP_MALFORMED);
		key.sid = bpf_ntohs(pppoe->sid);
		if (!key.sid)
			return drop_xdp(DROP_MALFORMED);
		strip += PPPOE_LEN;
	} else if (p.type == ETH_P_IP) {
		ip = data + p.offset;
		if ((void *)(ip + 1) > end)
			return drop_xdp(DROP_MALFORMED);
		if (is_dhcp_request(ip, end))
			return control(port->slot);
		key.address = ip->saddr;
	} else {
		return drop_xdp(DROP_NOT_IPV4);
	}

	octets = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || ip->ihl < 5 || octets < sizeof(*ip) || (void *)ip + octets > end)
		return drop_xdp(DROP_MALFORMED);
	if (!same_mac(eth->h_dest, group->vmac))
		return drop_xdp(DROP_OTHER_MAC);
	if (banned(ip->saddr, ip->daddr, ip->protocol))
		return drop_xdp(DROP_BANNED);
	key.port = port->port;
	key.outer = p.outer;
	key.inner = p.inner;
	copy_mac(key.mac, eth->h_source);
	return accept(ctx, &key, port->slot, ip->saddr, octets, strip);
}

/* Lets in what access_xdp accepted. All else was for the packet sockets, which have seen it by now:
 * the kernel must not answer it. */
SEC("classifier")
int access_ingress(struct __sk_buff *skb)
{
	struct meta *meta = (void *)(long)skb->data_meta;

	if ((void *)(meta + 1) > (void *)(long)skb->data || meta->magic != META_MAGIC)
		return TC_ACT_SHOT;
	skb->mark = meta->mark;
	/* The frame was addressed to the virtual MAC, not to the device's. */
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return TC_ACT_OK;
}

/* Writes the frame around an IPv4 packet: addresses, up to two tags, PPPoE. */
static __always_inline int wrap(struct __sk_buff *skb, struct down_value *session,
				struct group *group, __u32 octets)
{
	__u32 tags = (session->outer ? TAG_LEN : 0) + (session->inner ? TAG_LEN : 0);
	__u32 grow = tags + (session->sid ? PPPOE_LEN : 0);
	__u32 at = MACS_LEN;
	struct {
		__be16 type;
		struct pppoe pppoe;
	} __attribute__((packed)) end = {};
	__u8 macs[MACS_LEN];
	__be16 tag[2];

	if (grow) {
		/* Segmentation knows nothing of PPPoE: offloads must be off, as open() sees to. */
		if (skb->gso_size)
			return drop_tc(DROP_SEGMENT_OFFLOAD);
		if (bpf_skb_adjust_room(skb, grow, BPF_ADJ_ROOM_MAC, 0))
			return drop_tc(DROP_NO_ROOM);
	}
	copy_mac(macs, session->mac);
	copy_mac(macs + ETH_ALEN, group->vmac);
	if (bpf_skb_store_bytes(skb, 0, macs, MACS_LEN, 0))
		return drop_tc(DROP_NO_ROOM);
	if (session->outer) {
		tag[0] = bpf_htons(session->flags & F_S_TAG ? ETH_P_8021AD : ETH_P_8021Q);
		tag[1] = bpf_htons(session->outer);
		if (bpf_skb_store_bytes(skb, at, tag, TAG_LEN, 0))
			return drop_tc(DROP_NO_ROOM);
		at += TAG_LEN;
	}
	if (session->inner) {
		tag[0] = bpf_htons(ETH_P_8021Q);
		tag[1] = bpf_htons(session->inner);
		if (bpf_skb_store_bytes(skb, at, tag, TAG_LEN, 0))
			return drop_tc(DROP_NO_ROOM);
		at += TAG_LEN;
	}
	if (!session->sid) {
		end.type = bpf_htons(ETH_P_IP);
		if (bpf_skb_store_bytes(skb, at, &end, TYPE_LEN, 0))
			return drop_tc(DROP_NO_ROOM);
		return TC_ACT_OK;
	}
	end.type = bpf_htons(ETHERTYPE_PPPOE_SESSION);
	end.pppoe.version_type = PPPOE_VERSION_TYPE;
	end.pppoe.sid = bpf_htons(session->sid);
	end.pppoe.length = bpf_htons(octets + TYPE_LEN);
	end.pppoe.protocol = bpf_htons(PPP_IPV4);
	if (bpf_skb_store_bytes(skb, at, &end, TYPE_LEN + PPPOE_LEN, 0))
		return drop_tc(DROP_NO_ROOM);
	return TC_ACT_OK;
}

/* Sends routed packets to their session, and the daemon's own frames, which already bear the virtual
 * MAC (routed ones bear the device's). Nothing else leaves an access port. */
SEC("classifier")
int access_egress(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct down_value *session;
	struct flows *flows;
	struct group *group;
	struct port *port;
	struct ethhdr eth;
	struct iphdr ip;
	__u32 octets;

	port = bpf_map_lookup_elem(&ports, &ifindex);
	group = port ? group_at(port->slot) : NULL;
	if (!group)
		return drop_tc(DROP_NO_GROUP);
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return drop_tc(DROP_MALFORMED);
	if (same_mac(eth.h_source, group->vmac))
		return fence_open(port->slot) ? TC_ACT_OK : drop_tc(DROP_FENCE_SHUT);
	if (eth.h_proto != bpf_htons(ETH_P_IP))
		return drop_tc(DROP_FOREIGN_FRAME);

	if (bpf_skb_load_bytes(skb, sizeof(eth), &ip, sizeof(ip)))
		return drop_tc(DROP_MALFORMED);
	if (banned(ip.saddr, ip.daddr, ip.protocol))
		return drop_tc(DROP_BANNED);
	session = bpf_map_lookup_elem(&sessions_down, &ip.daddr);
	if (!session || session->port != port->port)
		return drop_tc(DROP_NO_SESSION);
	if (!fence_open(session->slot))
		return drop_tc(DROP_FENCE_SHUT);
	if (session->flags & F_BLOCK)
		return drop_tc(DROP_DISALLOWED);
	if ((skb->mark & MARK_SIGN_MASK) == MARK_SIGN_FLOW &&
	    (skb->mark & MARK_INDEX_MASK) != session->index)
		return drop_tc(DROP_STALE_FLOW);
	flows = bpf_map_lookup_elem(&session_flows, &session->index);
	if (!flows)
		return drop_tc(DROP_NO_SESSION);
	octets = skb->len - sizeof(eth);
	if ((session->flags & F_POLICE) &&
	    !conforms(&flows->down, octets, session->rate_bps, session->burst_ns)) {
		__sync_fetch_and_add(&flows->down.dropped, 1);
		return drop_tc(DROP_POLICED);
	}
	count(&flows->down, octets);
	skb->priority = session->flags & F_CLASS ? CLASS_MAJOR | session->index : 0;
	return wrap(skb, session, group, octets);
}

/* Lets frames to a virtual MAC in while its fence is open; the daemon has seen ARP by now. A ban also
 * keeps packets from the node itself. */
SEC("classifier")
int core_ingress(struct __sk_buff *skb)
{
	struct vmac_key key = {};
	struct ethhdr eth;
	__u32 *slot;

	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return TC_ACT_OK;
	if (banned_skb(skb, &eth))
		return drop_tc(DROP_BANNED);
	copy_mac(key.mac, eth.h_dest);
	slot = bpf_map_lookup_elem(&vmacs, &key);
	if (!slot)
		return TC_ACT_OK; /* the node's own traffic */
	if (!fence_open(*slot))
		return drop_tc(DROP_FENCE_SHUT);
	if (eth.h_proto != bpf_htons(ETH_P_IP))
		return TC_ACT_SHOT;
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return TC_ACT_OK;
}

/* Whether a packet still has the source address that it had inside. NAT leaves packets alone that have no
 * port block, that connection tracking finds invalid, or whose protocol has no ports; and the rules may be
 * gone altogether, as after `nft flush ruleset`. */
static __always_inline bool untranslated(struct __sk_buff *skb)
{
	struct nat_key key = { .prefix_len = 32 };

	return bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, saddr),
				  &key.address, sizeof(key.address)) ||
	       bpf_map_lookup_elem(&nat_networks, &key);
}

/* Packets of subscribers leave with the virtual MAC, translated if their pool is private, and only while
 * the fence is open; the daemon's frames bear the virtual MAC already and need the fence too. The node's
 * own traffic passes untouched. */
SEC("classifier")
int core_egress(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	struct vmac_key key = {};
	struct ethhdr eth;
	__u32 *by_mac;

	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return TC_ACT_OK;
	if (banned_skb(skb, &eth))
		return drop_tc(DROP_BANNED);
	if ((mark & MARK_SIGN_MASK) == MARK_SIGN) {
		__u32 slot = (mark >> MARK_SLOT_SHIFT) & (GROUPS_MAX - 1);
		struct group *group = group_at(slot);

		if (!group)
			return drop_tc(DROP_NO_GROUP);
		if (!fence_open(slot))
			return drop_tc(DROP_FENCE_SHUT);
		if (untranslated(skb))
			return drop_tc(DROP_UNTRANSLATED);
		if (bpf_skb_store_bytes(skb, ETH_ALEN, group->vmac, ETH_ALEN, 0))
			return drop_tc(DROP_NO_ROOM);
		skb->priority = mark & MARK_CLASS ? CLASS_MAJOR | (mark & MARK_INDEX_MASK) : 0;
		return TC_ACT_OK;
	}
	copy_mac(key.mac, eth.h_source);
	by_mac = bpf_map_lookup_elem(&vmacs, &key);
	if (by_mac && !fence_open(*by_mac))
		return drop_tc(DROP_FENCE_SHUT);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
