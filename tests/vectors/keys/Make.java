import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.security.spec.*;
import java.util.Base64;
import javax.crypto.*;
import javax.crypto.spec.*;

/** Keys as Java writes them: EC without the public half, and under PBE schemes of its own names. */
public class Make {
    /** 1.2.840.113549.1.5.13. */
    static final byte[] PBES2 = {
        0x06, 0x09, 0x2a, (byte) 0x86, 0x48, (byte) 0x86, (byte) 0xf7, 0x0d, 0x01, 0x05, 0x0d
    };

    public static void main(String[] arguments) throws Exception {
        for (String curve : new String[] {"secp256r1", "secp384r1"}) {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
            generator.initialize(new ECGenParameterSpec(curve));
            KeyPair pair = generator.generateKeyPair();
            write("java-" + curve + ".pem", "PRIVATE KEY", pair.getPrivate().getEncoded());
            write("java-" + curve + "-public.pem", "PUBLIC KEY", pair.getPublic().getEncoded());
        }
        String text = Files.readString(Path.of(arguments[1]));
        byte[] key = Base64.getMimeDecoder().decode(text.replaceAll("-----[A-Z ]+-----", ""));
        for (String scheme : new String[] {
                "PBEWithSHA1AndDESede", "PBEWithSHA1AndRC2_40", "PBEWithSHA1AndRC2_128",
                "PBEWithHmacSHA1AndAES_128", "PBEWithHmacSHA512AndAES_256"}) {
            SecretKeyFactory factory = SecretKeyFactory.getInstance(scheme);
            SecretKey password = factory.generateSecret(new PBEKeySpec(arguments[0].toCharArray()));
            Cipher cipher = Cipher.getInstance(scheme);
            byte[] salt = new byte[20];
            new SecureRandom().nextBytes(salt);
            byte[] iv = new byte[16];
            new SecureRandom().nextBytes(iv);
            AlgorithmParameterSpec spec = scheme.contains("Hmac")
                ? new PBEParameterSpec(salt, 10000, new IvParameterSpec(iv))
                : new PBEParameterSpec(salt, 10000);
            cipher.init(Cipher.ENCRYPT_MODE, password, spec);
            byte[] encrypted = cipher.doFinal(key);
            // EncryptedPrivateKeyInfo does not know PBES2 by the names that Cipher has for it.
            byte[] der = scheme.contains("Hmac")
                ? element(0x30, element(0x30, PBES2, cipher.getParameters().getEncoded()),
                    element(0x04, encrypted))
                : new EncryptedPrivateKeyInfo(cipher.getParameters(), encrypted).getEncoded();
            write("java-" + scheme + ".pem", "ENCRYPTED PRIVATE KEY", der);
        }
    }

    /** A DER element of at most 65535 bytes. */
    static byte[] element(int tag, byte[]... parts) throws IOException {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            body.write(part);
        }
        ByteArrayOutputStream whole = new ByteArrayOutputStream();
        whole.write(tag);
        whole.write(body.size() < 256
            ? body.size() < 128 ? new byte[] {(byte) body.size()} : new byte[] {(byte) 0x81, (byte) body.size()}
            : new byte[] {(byte) 0x82, (byte) (body.size() >> 8), (byte) body.size()});
        body.writeTo(whole);
        return whole.toByteArray();
    }

    static void write(String path, String label, byte[] der) throws IOException {
        String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
        Files.writeString(Path.of(path),
            "-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n");
    }
}
