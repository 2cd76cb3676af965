import java.io.InputStream;
import java.io.OutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.cert.X509Certificate;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/**
 * A client on the Java runtime, whose TLS (JSSE) no probe can read. Arguments: URL, "stream" or "whole", number of calls.
 *
 * <p>Prints one JSON line per call: bytes of the body that it wrote and read. It trusts any certificate, because it is
 * used with servers of the test's own under the names of others.
 */
public class Client {
    public static void main(String[] args) throws Exception {
        TrustManager[] anybody = {
            new X509TrustManager() {
                public void checkClientTrusted(X509Certificate[] chain, String kind) {}

                public void checkServerTrusted(X509Certificate[] chain, String kind) {}

                public X509Certificate[] getAcceptedIssuers() {
                    return new X509Certificate[0];
                }
            }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, anybody, null);
        boolean stream = args[1].equals("stream");
        for (int n = 0; n < Integer.parseInt(args[2]); n++) {
            String body = "{\"model\":\"inferscope-test-model\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]"
                    + (stream ? ",\"stream\":true" : "") + "}";
            var connection = (HttpsURLConnection) URI.create(args[0] + "/chat/completions").toURL().openConnection();
            connection.setSSLSocketFactory(context.getSocketFactory());
            connection.setHostnameVerifier((host, session) -> true);
            connection.setRequestMethod("POST");
            connection.setRequestProperty("content-type", "application/json");
            connection.setDoOutput(true);
            byte[] sent = body.getBytes(StandardCharsets.UTF_8);
            try (OutputStream out = connection.getOutputStream()) {
                out.write(sent);
            }
            long received = 0;
            try (InputStream in = connection.getInputStream()) {
                byte[] buffer = new byte[65536];
                for (int count; (count = in.read(buffer)) > 0; ) {
                    received += count;
                }
            }
            System.out.printf("{\"sent\":%d,\"received\":%d,\"status\":%d}%n", sent.length, received, connection.getResponseCode());
        }
    }
}
