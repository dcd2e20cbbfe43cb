import java.io.*;
import java.net.*;
import java.util.*;

/** Loses connections in one method and files in another, when it is told to: by then both have been compiled. */
public class Leak {
    static final List<Object> kept = new ArrayList<>();

    static void fetch(String address, boolean keep) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) new URL(address).openConnection();
        InputStream answer = connection.getInputStream();
        if (keep) {
            kept.add(answer);
        } else {
            answer.readAllBytes();
            answer.close();
            connection.disconnect();
        }
    }

    static void load(String path, boolean keep) throws IOException {
        FileInputStream file = new FileInputStream(path);
        if (keep) {
            kept.add(file);
        } else {
            file.close();
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        String address = "http://" + arguments[0] + "/";
        for (int turn = 0; turn < 2500; turn++) {
            fetch(address, false);
            load("/proc/filesystems", false);
        }
        System.out.println("ready");
        input.readLine();
        for (int turn = 0; turn < 20; turn++) {
            fetch(address, true);
            load("/proc/filesystems", true);
            Thread.sleep(30);
        }
        // The last one.
        load("/proc/version", true);
        System.out.println("done");
        input.readLine();
    }
}
