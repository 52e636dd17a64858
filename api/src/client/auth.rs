use super::{Answer, Call, Client, ClientError};
use crate::types::{
    ApiKeyCreated, ApiKeyList, ApiKeyRequest, AuditList, AuditQuery, Deleted, LogoutRequest,
    UserCreate, UserInfo, UserList, UserUpdate,
};
use reqwest::{Method, Url};

/// Users, keys and the audit trail. Every method fails with [`ClientError`] as described there.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// `POST /api/v1/auth/logout`: the token of this client is worth nothing afterwards.
    pub async fn logout(&self) -> Result<Answer<serde_json::Value>, ClientError> {
        let path = ["api", "v1", "auth", "logout"];
        self.enveloped(Call::new(Method::POST, &path).json(&LogoutRequest::default())).await
    }

    /// `GET /api/v1/auth/users`.
    pub async fn users(&self) -> Result<Answer<UserList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "auth", "users"])).await
    }

    /// `POST /api/v1/auth/users`.
    pub async fn create_user(&self, request: &UserCreate) -> Result<Answer<UserInfo>, ClientError> {
        let path = ["api", "v1", "auth", "users"];
        self.enveloped(Call::new(Method::POST, &path).json(request)).await
    }

    /// `PUT /api/v1/auth/users/{id}`.
    pub async fn update_user(
        &self,
        id: &str,
        request: &UserUpdate,
    ) -> Result<Answer<UserInfo>, ClientError> {
        let path = ["api", "v1", "auth", "users", id];
        self.enveloped(Call::new(Method::PUT, &path).json(request)).await
    }

    /// `DELETE /api/v1/auth/users/{id}`.
    pub async fn delete_user(&self, id: &str) -> Result<Answer<Deleted>, ClientError> {
        self.enveloped(Call::new(Method::DELETE, &["api", "v1", "auth", "users", id])).await
    }

    /// `GET /api/v1/auth/api-keys`.
    pub async fn api_keys(&self) -> Result<Answer<ApiKeyList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "auth", "api-keys"])).await
    }

    /// `POST /api/v1/auth/api-keys`.
    pub async fn create_api_key(
        &self,
        request: &ApiKeyRequest,
    ) -> Result<Answer<ApiKeyCreated>, ClientError> {
        let path = ["api", "v1", "auth", "api-keys"];
        self.enveloped(Call::new(Method::POST, &path).json(request)).await
    }

    /// `DELETE /api/v1/auth/api-keys/{id}`.
    pub async fn delete_api_key(&self, id: &str) -> Result<Answer<Deleted>, ClientError> {
        self.enveloped(Call::new(Method::DELETE, &["api", "v1", "auth", "api-keys", id])).await
    }

    /// `GET /api/v1/auth/audit`.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Answer<AuditList>, ClientError> {
        let mut url = Url::parse("http://x/").expect("a constant URL");
        url.query_pairs_mut().append_pair("limit", &query.limit().to_string());
        if let Some(before) = &query.before {
            url.query_pairs_mut().append_pair("before", before);
        }
        let mut call = Call::new(Method::GET, &["api", "v1", "auth", "audit"]);
        call.query = url.query().map(str::to_owned);
        self.enveloped(call).await
    }
}
