import java.io.FileInputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * A client of the capture matrix on Java's own HTTP client: makes the calls of python/plan.py.
 *
 * <p>usage: java MatrixClient.java BASE_URL CA
 */
public final class MatrixClient {
    private static String request(String prompt, boolean stream) {
        String options = stream ? ",\"stream_options\":{\"include_usage\":true}" : "";
        return "{\"model\":\"inferscope-test-model\",\"messages\":[{\"role\":\"user\",\"content\":\"" + prompt
            + "\"}],\"stream\":" + stream + options + "}";
    }

    private static SSLContext trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream pem = new FileInputStream(file)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    public static void main(String[] args) throws Exception {
        HttpClient client =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(trusting(args[1])).build();
        String[] bodies = {
            request("first", false),
            request("second", false),
            request("x".repeat(1 << 20), false),
            request("fourth", true),
            request("fifth", false),
        };
        for (String body : bodies) {
            HttpRequest post = HttpRequest.newBuilder(URI.create(args[0] + "/chat/completions"))
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
            int status = client.send(post, HttpResponse.BodyHandlers.ofString()).statusCode();
            if (status != 200) {
                throw new IllegalStateException("status " + status);
            }
        }
    }
}
