use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn identity(ca: &ClusterCa, node: u64, cluster: &ClusterId) -> Identity {
    let cert = ca.issue(NodeId(node), cluster, &[IpAddr::from([127, 0, 0, 1])]).unwrap();
    Identity {
        node: NodeId(node),
        cluster_id: cluster.clone(),
        ca_pem: ca.cert_pem.clone(),
        cert_pem: cert.cert_pem,
        key_pem: cert.key_pem,
    }
}

#[test]
fn a_certificate_names_its_node_and_cluster() {
    let cluster = ClusterId("lab-1".to_owned());
    let ca = ClusterCa::generate(&cluster).unwrap();
    let id = identity(&ca, 7, &cluster);
    assert_eq!(peer_node_id(&id.cert_der().unwrap()), Some((cluster, NodeId(7))));
    assert_eq!(peer_node_id(b"rubbish"), None);
    assert_eq!(fingerprint(&ca.cert_pem).len(), 64);
    assert_eq!(fingerprint("rubbish"), "");
}

#[test]
fn a_signed_request_gets_the_names_of_the_authority_not_its_own() {
    let cluster = ClusterId("lab".to_owned());
    let ca = ClusterCa::generate(&cluster).unwrap();
    let key = KeyPair::generate().unwrap();
    let greedy = CertificateParams::new(vec![node_name(&cluster, NodeId(1))]).unwrap();
    let csr = greedy.serialize_request(&key).unwrap().pem().unwrap();
    let pem = ca.sign_csr(&csr, NodeId(9), &cluster, &[]).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(peer_node_id(&der), Some((cluster.clone(), NodeId(9))));
    let join = JoinRequest::generate().unwrap();
    let cert_pem = ca.sign_csr(&join.csr_pem, NodeId(3), &cluster, &[]).unwrap();
    let id = Identity {
        node: NodeId(3),
        cluster_id: cluster,
        ca_pem: ca.cert_pem,
        cert_pem,
        key_pem: join.key_pem,
    };
    id.rustls_server().unwrap();
    id.rustls_client().unwrap();
}

#[test]
fn a_saved_identity_is_private_and_reads_back_the_same() {
    let cluster = ClusterId("lab".to_owned());
    let ca = ClusterCa::generate(&cluster).unwrap();
    let id = identity(&ca, 2, &cluster);
    let dir = tempfile::tempdir().unwrap();
    id.save(dir.path()).unwrap();
    id.save(dir.path()).unwrap();
    let back = Identity::load(dir.path()).unwrap();
    assert_eq!((back.node, &back.cluster_id), (id.node, &id.cluster_id));
    assert_eq!(back.key_pem, id.key_pem);
    let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = identity(&ca, 3, &cluster);
    std::fs::write(dir.path().join(CERT_FILE), other.cert_pem).unwrap();
    let err = Identity::load(dir.path()).unwrap_err();
    assert_eq!(err.label(), "mismatch");
}

#[test]
fn a_cluster_id_that_is_no_dns_label_is_refused() {
    for bad in ["", "Lab", "a.b", "-a", "a_b", &"x".repeat(64)] {
        let err = ClusterCa::generate(&ClusterId(bad.to_owned())).unwrap_err();
        assert_eq!(err.label(), "cluster_name", "{bad:?}");
    }
}
