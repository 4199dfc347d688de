#!/bin/sh
# Makes what is in this folder anew. The password is the same for all: sesam-öffne-dich.
set -eu
legacy="-provider legacy -provider default"
password="sesam-öffne-dich"

# One key for each algorithm, as PKCS#8.
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem
openssl genpkey -algorithm ED25519 -out ed25519.pem

# The same keys as PKCS#1 and SEC1, with and without parameters and public half.
openssl rsa -in rsa.pem -traditional -out rsa-pkcs1.pem
openssl ec -in p256.pem -out p256-sec1.pem
openssl ec -in p384.pem -no_public -out p384-sec1-no-public.pem
{ openssl ecparam -name prime256v1 && cat p256-sec1.pem; } > p256-sec1-parameters.pem

# PBES1: PKCS#5's and PKCS#12's.
for scheme in PBE-MD5-DES PBE-MD5-RC2-64 PBE-SHA1-DES PBE-SHA1-RC2-64 \
    PBE-SHA1-3DES PBE-SHA1-2DES PBE-SHA1-RC2-128 PBE-SHA1-RC2-40; do
    openssl pkcs8 -topk8 -in p256.pem -v1 $scheme -passout "pass:$password" $legacy \
        -out "p256-$scheme.pem"
done

# PBES2.
for cipher in aes-128-cbc aes-192-cbc aes-256-cbc des3 des-cbc; do
    openssl pkcs8 -topk8 -in p256.pem -v2 $cipher -passout "pass:$password" $legacy \
        -out "p256-$cipher.pem"
done
for prf in hmacWithSHA1 hmacWithSHA224 hmacWithSHA256 hmacWithSHA384 hmacWithSHA512; do
    openssl pkcs8 -topk8 -in p256.pem -v2 aes-256-cbc -v2prf $prf -passout "pass:$password" \
        -out "p256-$prf.pem"
done
openssl pkcs8 -topk8 -in p256.pem -scrypt -passout "pass:$password" -out p256-scrypt.pem

# What is refused with a word.
openssl rsa -in rsa.pem -traditional -aes128 -passout "pass:$password" -out refused-proc-type.pem
openssl pkcs8 -topk8 -in p256.pem -v2 rc2-cbc -passout "pass:$password" $legacy \
    -out refused-rc2.pem
openssl pkcs8 -topk8 -in p256.pem -v1 PBE-SHA1-RC4-128 -passout "pass:$password" $legacy \
    -out refused-rc4.pem
openssl pkcs8 -topk8 -in p256.pem -v2 aes-128-cbc -iter 2000001 -passout "pass:$password" \
    -out refused-iterations.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out refused-p521.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
    -pkeyopt ec_param_enc:explicit -out refused-explicit.pem
openssl genpkey -algorithm ED448 -out refused-ed448.pem
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out refused-rsa1024.pem
openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out refused-rsa-pss.pem
openssl genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:1024 -out dsa.parameters
openssl genpkey -paramfile dsa.parameters -out refused-dsa.pem
rm dsa.parameters

# A chain, for a hundred years: root, intermediate and client, whose key is p256.pem; and the root's format
# of OpenSSL's own.
openssl req -x509 -new -key rsa.pem -days 36500 -subj "/O=Example/CN=root" -out root.pem
cat > ca.cnf <<EOF
basicConstraints=critical,CA:TRUE
EOF
openssl req -new -key p384.pem -subj "/O=Example/CN=intermediate" \
    | openssl x509 -req -CA root.pem -CAkey rsa.pem -set_serial 2 -days 36500 -extfile ca.cnf \
        -out intermediate.pem
openssl req -new -key p256.pem -subj "/O=Example/CN=client" -out client.csr
openssl x509 -req -in client.csr -CA intermediate.pem -CAkey p384.pem -set_serial 3 -days 36500 \
    -out client.pem
openssl x509 -in client.pem -trustout -out refused-trusted.pem
openssl crl2pkcs7 -nocrl -certfile client.pem -out refused-pkcs7.pem
rm ca.cnf client.csr

# What Java writes, whose passwords are ASCII.
java Make.java sesam-oeffne-dich p256.pem
