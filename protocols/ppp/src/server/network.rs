//! The network phase: the grant, IPCP, and protocols that are not spoken here.

use super::{Action, Phase, Run, Server, SessionOutcome};
use crate::automaton::Output;
use crate::echo::Keepalive;
use crate::error::WireError;
use crate::wire::{self, Packet, code, protocol};
use model::DownReason;

impl Server {
    pub(super) fn session_decided(&mut self, outcome: SessionOutcome, run: &mut Run<'_>) {
        let is_asked = self.link.is_some() && self.ipcp.options.addresses().is_none();
        if !is_asked || self.is_ending() {
            return;
        }
        match outcome {
            SessionOutcome::Granted(addresses) => {
                self.ipcp.options.grant(addresses);
                // Else LCP is being negotiated anew; IPCP follows the next authentication.
                if self.phase == Phase::Authorize {
                    self.start_ipcp(run);
                }
            }
            SessionOutcome::Refused { message } => {
                self.close(DownReason::NegotiationFailed, &message, run);
            }
        }
    }

    pub(super) fn start_ipcp(&mut self, run: &mut Run<'_>) {
        self.phase = Phase::Network;
        let mut out = Vec::new();
        self.ipcp.open(run.now, &run.policy, &mut out);
        self.ipcp.lower_up(run.now, &run.policy, &mut out);
        self.ipcp_outputs(out, run);
        if let Some(information) = self.early_request.take()
            && let Err(error) = self.ipcp_frame(&information, run)
        {
            self.dropped.note(error);
        }
    }

    pub(super) fn ipcp_frame(
        &mut self,
        information: &[u8],
        run: &mut Run<'_>,
    ) -> Result<(), WireError> {
        let packet = Packet::parse(information)?;
        match self.phase {
            Phase::Network => {
                let mut out = Vec::new();
                self.ipcp.receive(packet, run.now, &run.policy, &mut out)?;
                self.peer_speaks_ipcp = true;
                self.ipcp_outputs(out, run);
                if packet.code == code::TERMINATE_REQUEST {
                    // IPCP is all there is on this link.
                    self.close(DownReason::UserRequest, "", run);
                }
                Ok(())
            }
            Phase::Authorize if packet.code == code::CONFIGURE_REQUEST => {
                self.early_request = Some(packet.whole.into());
                Ok(())
            }
            Phase::Idle
            | Phase::Establish
            | Phase::Authenticate
            | Phase::Authorize
            | Phase::Terminate(_)
            | Phase::Done => Err(WireError::OutOfPhase { protocol: protocol::IPCP }),
        }
    }

    pub(super) fn ipcp_outputs(&mut self, out: Vec<Output>, run: &mut Run<'_>) {
        for output in out {
            match output {
                Output::Send(frame) => run.send(frame),
                Output::Up => self.ipcp_up(run),
                Output::Down => {
                    if self.establish_by.is_none() {
                        self.establish_by = Some(run.now + run.cfg.auth_timeout);
                    }
                }
                Output::Finished | Output::GiveUp => {
                    self.close(DownReason::NegotiationFailed, "no agreement on addresses", run);
                }
                // IPCP has no codes beyond Code-Reject.
                Output::Extended => {}
            }
        }
    }

    fn ipcp_up(&mut self, run: &mut Run<'_>) {
        self.establish_by = None;
        if self.keepalive.is_none() && !run.cfg.echo_interval.is_zero() {
            let first_at = run.now + run.cfg.echo_interval;
            self.keepalive = Some(Keepalive::new(first_at, 0));
        }
        let Some(old) = self.link.take() else { return };
        let link = self.parameters(old.username.clone(), run);
        if !self.announced || link != old {
            self.announced = true;
            run.actions.push(Action::Up(link.clone()));
        }
        self.link = Some(link);
    }

    /// A protocol that is not ours. RFC 1661 §3.4, §5.7.
    pub(super) fn foreign_frame(
        &mut self,
        protocol: u16,
        information: &[u8],
        run: &mut Run<'_>,
    ) -> Result<(), WireError> {
        match self.phase {
            // A datagram that is early or late; the data plane takes the others.
            Phase::Authorize | Phase::Network if protocol == protocol::IPV4 => {
                Err(WireError::OutOfPhase { protocol })
            }
            Phase::Authorize | Phase::Network => {
                let id = self.lcp.next_id();
                run.send(wire::protocol_reject(id, protocol, information));
                Ok(())
            }
            Phase::Idle
            | Phase::Establish
            | Phase::Authenticate
            | Phase::Terminate(_)
            | Phase::Done => Err(WireError::OutOfPhase { protocol }),
        }
    }
}
