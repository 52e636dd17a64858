//! How nodes become members, and how they leave.

use super::{ADMIN, Cluster, FORMING, GROUP, NodeName, PASSWORD, client_of, eventually, user_name};
use crate::lab::topology::{self, VRID};
use anyhow::{Context as _, Result, anyhow};
use api::types::{
    AdminInit, GroupInit, InitRequest, JoinRequest, JoinTokenRequest, LoginRequest, PoolInit,
    SubscriberInit,
};
use model::{NodeId, NodeRole, Secret};
use std::time::Duration;

impl Cluster {
    pub(super) async fn form(&mut self) -> Result<()> {
        self.answering(NodeName(0)).await?;
        let slow = client_of(0, FORMING)?;
        slow.cluster_init(&self.init_request(), &self.bootstrap(NodeName(0))?).await?;
        self.log_in(&slow).await?;
        for i in 1..self.nodes() {
            self.join(NodeName(i)).await?;
        }
        self.wait("all nodes vote and a data node owns the group", FORMING, |s| self.is_ready(s))
            .await?;
        Ok(())
    }

    /// Gives all clients a new token.
    async fn log_in(&mut self, through: &api::Client) -> Result<()> {
        let login = LoginRequest { username: ADMIN.0.into(), password: Secret::new(ADMIN.1) };
        let token = through.login(&login).await?.data.access_token;
        self.clients = self.clients.iter().map(|c| c.with_token(token.clone())).collect();
        Ok(())
    }

    /// Lets a fresh node join through the members.
    ///
    /// # Errors
    /// When it is not let in in time.
    pub async fn join(&self, node: NodeName) -> Result<NodeId> {
        let role = if self.is_witness(node) { NodeRole::Witness } else { NodeRole::Data };
        let request = JoinTokenRequest { role: Some(role), ..JoinTokenRequest::default() };
        self.answering(node).await?;
        let what = format!("{node} joins");
        let joined = eventually(&what, FORMING, || async {
            let ticket = self.ask(async |c| c.join_token(&request).await).await?;
            let join = JoinRequest { token: ticket.token };
            let client = client_of(node.0, FORMING)?;
            Ok(client.cluster_join(&join, &self.bootstrap(node)?).await?.data.node_id)
        });
        joined.await.with_context(|| format!("its log: {}", self.log_path(node).display()))
    }

    /// Removes a member, waits until Raft goes on without it, ends its daemon and wipes its data, as an
    /// operator does who replaces the machine; starts a daemon that belongs to no cluster.
    ///
    /// # Errors
    /// When the members do not agree in time; the node is a member then as before.
    pub async fn retire(&mut self, node: NodeName, within: Duration) -> Result<NodeId> {
        let name = node.to_string();
        let members = self.ask(async |c| c.members().await).await?.members;
        let member = members.iter().find(|m| m.name == name);
        let id = member.with_context(|| format!("{name} is no member"))?.id;
        self.ask(async |c| c.remove_member(id).await).await?;
        // A majority may be missing for the change of Raft's own membership; it follows when it is back.
        let _ =
            self.wait("the member is gone", within, |s| s.nodes.iter().all(|n| n.id != id)).await;
        if self.is_running(node) {
            self.kill(node)?;
        }
        for entry in std::fs::read_dir(self.data(node))? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)?
            } else {
                std::fs::remove_file(&path)?
            }
        }
        self.spawn(node)?;
        Ok(id)
    }

    fn bootstrap(&self, node: NodeName) -> Result<Secret> {
        let path = self.data(node).join("bootstrap-token");
        Ok(Secret::new(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?))
    }

    /// Waits until a node's API answers.
    async fn answering(&self, node: NodeName) -> Result<()> {
        eventually(&format!("{node} answers"), FORMING, || async {
            self.clients[node.0].health().await.map(|_| ()).map_err(|e| anyhow!(e))
        })
        .await
        .map_err(|e| anyhow!("{e:#}; its log: {}", self.log_path(node).display()))
    }

    fn init_request(&self) -> InitRequest {
        let pool = |name: &str, service: &str, net: u8| PoolInit {
            name: name.into(),
            group: GROUP.into(),
            service: service.into(),
            range: format!("100.{net}.0.2-100.{net}.255.254"),
            prefix_len: 16,
            gateway: format!("100.{net}.0.1"),
            dns: vec!["192.0.2.53".into(), "192.0.2.54".into()],
            lease_s: self.settings.lease_s,
            nat: None,
            rate: None,
        };
        let mut request = InitRequest {
            cluster_name: "lab".into(),
            admin: AdminInit { username: ADMIN.0.into(), password: Secret::new(ADMIN.1) },
            groups: vec![GroupInit {
                name: GROUP.into(),
                vrid: u32::from(VRID),
                core_address: format!("{}/24", topology::CORE_VIP),
                ac_name: "tandem-lab".into(),
                services: vec!["pppoe".into(), "dhcp".into()],
                preferred: vec![],
            }],
            pools: vec![pool("pppoe", "pppoe", 64), pool("dhcp", "dhcp", 65)],
            subscribers: (0..self.settings.users)
                .map(|i| SubscriberInit {
                    username: user_name(i),
                    password: Secret::new(PASSWORD),
                    rate: None,
                    address: None,
                    pool: None,
                })
                .collect(),
        };
        (self.settings.adjust)(&mut request);
        request
    }
}
