import java.io.IOException;
import java.net.URI;
import java.net.URLConnection;
import java.util.ArrayList;

/** Asks a server again and again, reads no answer to its end and closes no connection. */
public class Leak {
    public static void main(String[] arguments) throws Exception {
        var url = URI.create(arguments[0]).toURL();
        var kept = new ArrayList<URLConnection>();
        while (true) {
            try {
                var connection = url.openConnection();
                connection.connect();
                kept.add(connection);
            } catch (IOException full) {
                // It tries again.
            }
            Thread.sleep(20);
        }
    }
}
