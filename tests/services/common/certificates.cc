#include "tests/services/common/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

template <auto free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using X = std::unique_ptr<X509, Freed<X509_free>>;
using Bytes = std::unique_ptr<BIO, Freed<BIO_free_all>>;

std::string TextOf(const Bytes& bio) {
  char* data;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

void Extend(X509* certificate, X509* issuer, int what, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, what, value);
  CHECK(extension != nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

Certificate Make(const char* name, const Certificate* authority) {
  const Key key(EVP_EC_gen("P-256"));
  const X certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), authority == nullptr ? 1 : 2);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 24 * 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  Key signer_key;
  X signer;
  if (authority != nullptr) {
    const Bytes key_bytes(BIO_new_mem_buf(authority->key.data(), -1));
    signer_key.reset(PEM_read_bio_PrivateKey(key_bytes.get(), nullptr, nullptr, nullptr));
    const Bytes bytes(BIO_new_mem_buf(authority->certificate.data(), -1));
    signer.reset(PEM_read_bio_X509(bytes.get(), nullptr, nullptr, nullptr));
  }
  X509* const issuer = signer == nullptr ? certificate.get() : signer.get();
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer));
  Extend(certificate.get(), issuer, NID_basic_constraints,
         authority == nullptr ? "critical,CA:TRUE" : "critical,CA:FALSE");
  Extend(certificate.get(), issuer, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost");
  X509_sign(certificate.get(), signer_key == nullptr ? key.get() : signer_key.get(), EVP_sha256());

  const Bytes certificate_bytes(BIO_new(BIO_s_mem())), key_bytes(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_bytes.get(), certificate.get());
  PEM_write_bio_PrivateKey(key_bytes.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {TextOf(certificate_bytes), TextOf(key_bytes)};
}

}  // namespace

Certificate MakeAuthority() { return Make("authority", nullptr); }
Certificate MakeCertificate(const Certificate& authority) { return Make("worker", &authority); }

}  // namespace minicpmv
